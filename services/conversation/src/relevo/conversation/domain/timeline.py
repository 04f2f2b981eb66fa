"""The timeline of a conversation: each of its events, what it was in words, and what brought it about.

What shows as an activity line reads as that line; the others have words here. Nothing that was said is told from the
events: a message that was deleted since, or whose writer was erased, must not come back through its history.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationArchived,
    ConversationEvent,
    ConversationOpened,
    ConversationTakenOver,
    ConversationWoken,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
    MessageStatusChanged,
    ReminderCancelled,
    ReminderDue,
    SurveySent,
)
from relevo.contracts.envelope import Envelope
from relevo.conversation.domain.activity import Language, Line, line_of, who, words

CauseKind = Literal["person", "customer", "rule", "bot", "integration", "policy", "timer", "channel", "system"]


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a conversation; ``data`` is None where it says nothing any more that this release can read."""

    envelope: Envelope
    data: ConversationEvent | None

    @property
    def line(self) -> Line | None:
        return line_of(self.data) if self.data else None

    @property
    def message_id(self) -> str | None:
        """The message that it is about."""
        return getattr(getattr(self.data, "message", None), "id", None)

    @property
    def actor(self) -> str:
        return self.envelope.actor

    @property
    def chain(self) -> list[str]:
        """The ids of what led to it, the nearest first."""
        return [id_ for id_ in (self.envelope.causation_id, *self.envelope.ancestors) if id_]

    def ids(self) -> set[str]:
        """The people, teams and keys that it names."""
        line = self.line
        return {self.actor.partition(":")[2], *(line.ids() if line else ())} - {""}


def cause_of(one: Happened) -> CauseKind:
    """Who or what brought an event about."""
    kind = one.actor.partition(":")[0]
    match kind:
        case "agent":
            return "person"
        case "contact":
            return "customer"
        case "rule":
            return "rule"
        case "bot":
            return "bot"
        case "key":
            return "integration"
    match one.data:
        case AssigneeChanged():
            return "policy"
        case MessageStatusChanged():
            return "channel"
        case ReminderDue() | SurveySent():
            return "timer"
        case ConversationWoken(cause="time") | ConversationTakenOver(reason="silent"):
            return "timer"
        case ConversationArchived() if not one.envelope.causation_id:
            return "timer"
    return "system"


def told(one: Happened, names: Mapping[str, str], language: Language, zone: str) -> str:
    """What happened, as a sentence. ``names`` has people, teams and keys by id, labels by key; times are in ``zone`` (IANA)."""
    if line := one.line:
        return words(line, one.actor, names, language, zone)
    es, en = _said(one.data)
    return f"{who(one.actor, names, language)} {es if language == 'es' else en}."


_STATUSES: Final = {
    "queued": ("puso un mensaje a la espera de salir", "queued a message"),
    "sent": ("informó: el mensaje salió hacia el cliente", "reported: the message was sent to the customer"),
    "delivered": ("informó: el mensaje llegó al cliente", "reported: the message reached the customer"),
    "read": ("informó: el cliente leyó el mensaje", "reported: the customer read the message"),
    "failed": ("informó: el mensaje no pudo entregarse", "reported: the message could not be delivered"),
}
_WRITTEN: Final = {
    "incoming": ("escribió", "wrote"),
    "outgoing": ("respondió al cliente", "replied to the customer"),
    "note": ("escribió una nota interna", "wrote a private note"),
}


REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "round_robin": ("turno rotatorio", "round robin"),
    "longest_idle": ("llevaba más tiempo libre", "had been idle for longest"),
    "least_loaded": ("era quien menos tenía", "had the least"),
    "most_skilled": ("era quien mejor lo sabe", "knew it best"),
    "last_agent": ("tuvo la última del contacto", "had the contact's last one"),
    "same_agent": ("ya la tenía", "had it already"),
    "owner": ("es responsable del contacto", "owns the contact"),
    "owner_absent": ("quien es responsable del contacto no está", "the contact's owner is not there"),
    "manual": ("a mano", "by hand"),
    "self": ("la tomó", "taken by oneself"),
    "automation": ("por una regla", "by a rule"),
    "unassigned_by_hand": ("se quitó a mano", "taken away by hand"),
    "resolved": ("está resuelta", "it is resolved"),
    "agent_removed": ("quien la tenía ya no está", "who had it has left"),
    "holder_offline": ("quien la tenía se desconectó", "who had it went offline"),
    "holder_away": ("quien la tenía se ausentó", "who had it went away"),
    "holder_off_shift": ("quien la tenía terminó su turno", "who had it ended their shift"),
    "unanswered": ("quien la tenía no respondió a tiempo", "who had it did not answer in time"),
    "snoozed": ("está pospuesta", "it is snoozed"),
    "woken": ("volvió a estar abierta", "it is open again"),
    "bot": ("la tiene un bot", "a bot has it"),
    "widened": ("ahora se pide menos", "less is needed now"),
    "overflow": ("esperaba demasiado con su equipo", "it waited for too long with its team"),
    "team_changed": ("cambió el equipo", "the team changed"),
    "no_agent_available": ("no hay nadie disponible", "nobody is available"),
    "all_at_capacity": ("todos están al límite", "everybody is at capacity"),
    "no_candidates": ("nadie puede atenderla", "nobody could have it"),
}
"""What the policy's reasons are called here; a decision's own words are assignment's."""


def _said(data: ConversationEvent | None) -> tuple[str, str]:
    match data:
        case ConversationOpened():
            return "abrió la conversación", "opened the conversation"
        case MessageCreated():
            return _WRITTEN[data.message.kind]
        case MessageStatusChanged():
            return _STATUSES.get(data.message.status, ("informó del estado de un mensaje", "reported on a message"))
        case MessageEdited():
            return "editó un mensaje", "edited a message"
        case MessageDeleted():
            return "borró un mensaje", "deleted a message"
        case MessageReacted(added=True):
            return f"reaccionó con {data.emoji} a una nota", f"reacted with {data.emoji} to a note"
        case MessageReacted():
            return f"retiró su {data.emoji} de una nota", f"took back {data.emoji} from a note"
        case ReminderCancelled():
            return "quitó un recordatorio", "put a reminder away"
    return "cambió la conversación", "changed this"


def because(
    one: Happened, names: Mapping[str, str], language: Language, *, origin: "Happened | None" = None, zone: str = "UTC"
) -> str:
    """Why it happened, as a sentence; ``origin`` is the event of this conversation that led to it, where one is known."""
    es = language == "es"
    name = who(one.actor, names, language)
    match cause_of(one):
        case "person" | "integration":
            why = f"Lo hizo {name}" if es else f"Done by {name}"
        case "customer":
            why = "Lo hizo el cliente" if es else "Done by the customer"
        case "bot":
            why = "Lo hizo un bot" if es else "Done by a bot"
        case "rule":
            version = one.envelope.actor_version
            why = "Por una regla" if es else "By a rule"
            if version:
                why += f" (versión {version})" if es else f" (version {version})"
        case "policy":
            why = "Por la política de reparto" if es else "By the routing policy"
            if reason := REASONS.get(one.data.reason if isinstance(one.data, AssigneeChanged) else ""):
                why += f": {reason[0] if es else reason[1]}"
        case "timer":
            why = "Llegó su hora" if es else "Its time came"
        case "channel":
            why = "Lo informó el canal" if es else "The channel reported it"
        case _:
            why = "Lo hizo el sistema" if es else "Done by the system"
    if origin is not None:
        sentence = told(origin, names, language, zone).rstrip(".")
        why += f", a raíz de: {sentence}" if es else f", because of: {sentence}"
    return f"{why}."


def origin_of(one: Happened, known: Mapping[str, Happened]) -> Happened | None:
    """The nearest of what led to an event that is of the same conversation and among those known, by event id."""
    return next((known[id_] for id_ in one.chain if id_ in known), None)
