"""Activity lines: who did what, from what to what, one line a change.

A line is kept as data (a code and its values) and put into words when it is read, in the reader's language. What shows
as itself in the conversation (messages, what became of them) has no line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from relevo.contracts.conversation import (
    AssigneeChanged,
    AttributesChanged,
    ContactChanged,
    ConversationAbsorbed,
    ConversationArchived,
    ConversationEvent,
    ConversationForwarded,
    ConversationImported,
    ConversationMadePending,
    ConversationMarkedSpam,
    ConversationMerged,
    ConversationReopened,
    ConversationResolved,
    ConversationSnoozed,
    ConversationSplit,
    ConversationTakenOver,
    ConversationUnarchived,
    ConversationUnmerged,
    ConversationWoken,
    LabelsChanged,
    MessageChangeRefused,
    OwnerChanged,
    ParticipantsChanged,
    PriorityChanged,
    ReminderDue,
    ReminderSet,
    SubjectChanged,
    SurveyAnswered,
    SurveySent,
)

Language = Literal["es", "en"]


@dataclass(frozen=True, slots=True)
class Line:
    """One change: ``code`` says which, ``values`` what it was and became. People and teams are ids."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def labels(self) -> set[str]:
        """The labels it names, by their keys."""
        return {*self.values["added"], *self.values["removed"]} if self.code == "labels" else set()

    def ids(self) -> set[str]:
        """The people and teams it names."""
        match self.code:
            case "assignee" | "owner" | "reminder_due":
                return {id_ for name in ("from", "to", "from_team", "to_team") if (id_ := self.values.get(name))}
            case "participants":
                return {*self.values.get("added", ()), *self.values.get("removed", ())}
            case _:
                return set()


_PLAIN: Final[Mapping[type[ConversationEvent], str]] = {
    ConversationResolved: "resolved",
    ConversationArchived: "archived",
    ConversationUnarchived: "unarchived",
    ConversationMadePending: "made_pending",
    ConversationMarkedSpam: "spam",
    ConversationImported: "imported",
    ConversationMerged: "merged",
    ConversationAbsorbed: "absorbed",
    ConversationUnmerged: "unmerged",
    ConversationSplit: "split",
    SurveySent: "survey_sent",
}


def line_of(event: ConversationEvent) -> Line | None:
    """The line that an event leaves, None when it has none."""
    state = event.conversation
    match event:
        case ConversationReopened():
            return Line("reopened", {"cause": event.cause})
        case ConversationSnoozed():
            return Line("snoozed", {"until": state.snoozed_until.isoformat() if state.snoozed_until else None})
        case ConversationWoken():
            return Line("woken", {"cause": event.cause})
        case PriorityChanged():
            return Line("priority", {"from": event.from_priority, "to": state.priority})
        case OwnerChanged():
            return Line(
                "owner",
                {
                    "from": event.from_owner_id,
                    "to": state.contact.owner_id,
                    "from_team": event.from_owner_team_id,
                    "to_team": state.contact.owner_team_id,
                },
            )
        case SubjectChanged():
            return Line("subject", {"from": event.from_subject, "to": state.subject})
        case AttributesChanged():
            return Line("attributes", {"to": {key: state.attributes.get(key) for key in event.changed}})
        case LabelsChanged():
            return Line("labels", {"added": event.added, "removed": event.removed})
        case ParticipantsChanged():
            return Line("participants", {"added": event.added, "removed": event.removed})
        case ReminderSet():
            return Line("reminder_set", {"due_at": event.reminder.due_at.isoformat(), "unless": event.reminder.unless})
        case ReminderDue():
            return Line("reminder_due", {"to": event.agent_id, "to_team": event.team_id})
        case ContactChanged():
            return Line("contact", {"cause": event.cause})
        case MessageChangeRefused():
            return Line("change_refused", {"to": event.error})
        case ConversationForwarded():
            return Line("forwarded", {"to": event.addresses, "with_notes": event.with_notes})
        case ConversationTakenOver():
            return Line("taken_over", {"reason": event.reason})
        case SurveyAnswered():
            return Line("survey_answered", {"from": event.previous_rating, "to": event.rating})
        case AssigneeChanged():
            return Line(
                "assignee",
                {
                    "from": event.from_assignee_id,
                    "to": state.assignee_id,
                    "from_team": event.from_team_id,
                    "to_team": state.team_id,
                    "reason": event.reason,
                    "mode": event.mode,
                },
            )
        case _:
            code = _PLAIN.get(type(event))
            return Line(code) if code else None


def words(line: Line, actor: str, names: Mapping[str, str], language: Language, zone: str = "UTC") -> str:
    """The line as a sentence. ``names`` has people, teams and keys by id, labels by key; times are shown in ``zone`` (IANA)."""
    sentence = _SENTENCES[line.code](_Words(line.values, names, language, zone))
    return f"{who(actor, names, language)} {sentence}."


@dataclass(frozen=True, slots=True)
class _Words:
    values: Mapping[str, Any]
    names: Mapping[str, str]
    language: Language
    zone: str

    def say(self, es: str, en: str) -> str:
        return es if self.language == "es" else en

    def name(self, key: str) -> str:
        id_ = self.values.get(key)
        return self.names.get(id_, self.say("alguien que ya no está", "somebody who has left")) if id_ else ""

    def moment(self, key: str) -> str:
        at = datetime.fromisoformat(self.values[key]).astimezone(ZoneInfo(self.zone))
        return self.say(f"{at:%d/%m/%Y a las %H:%M}", f"{at:%Y-%m-%d %H:%M}")

    def named(self, key: str) -> str:
        return ", ".join(self.names.get(one, self.say("alguien", "somebody")) for one in self.values.get(key) or ())


def who(actor: str, names: Mapping[str, str], language: Language) -> str:
    """An actor by name, or by what they are."""
    kind, _, id_ = actor.partition(":")
    unknown = {
        "agent": ("Alguien del equipo", "Somebody of the team"),
        "contact": ("El cliente", "The customer"),
        "rule": ("Una regla", "A rule"),
        "bot": ("Un bot", "A bot"),
        "key": ("Una integración", "An integration"),
    }.get(kind, ("Relevo", "Relevo"))
    return names.get(id_) or unknown[0 if language == "es" else 1]


_TAKEN_OVER: Final = {
    "taken": ("tomó la conversación del bot", "took this over from the bot"),
    "customer_asked": (
        "pasó la conversación al equipo: el cliente pidió hablar con una persona",
        "handed this over: the customer asked for a person",
    ),
    "cannot_help": ("pasó la conversación al equipo: no supo ayudar", "handed this over: it could not help"),
    "silent": (
        "pasó la conversación al equipo: el bot no respondió a tiempo",
        "gave this to the team: the bot did not answer in time",
    ),
    "detached": (
        "pasó la conversación al equipo: la bandeja ya no tiene bot",
        "gave this to the team: the inbox has no bot any more",
    ),
    "endless": ("habló sin fin: la conversación pasó al equipo", "talked without end: this went to the team"),
}


def _taken_over(w: _Words) -> str:
    # Lines from before there were reasons have none: somebody took it.
    return w.say(*_TAKEN_OVER[w.values.get("reason", "taken")])


def _snoozed(w: _Words) -> str:
    if w.values.get("until") is None:
        return w.say("pospuso la conversación hasta que escriba el cliente", "snoozed this until the customer writes")
    when = w.moment("until")
    return w.say(f"pospuso la conversación hasta el {when}", f"snoozed this until {when}")


_UNLESS: Final = {
    "customer_answers": (", si el cliente no ha contestado", ", unless the customer answers"),
    "agent_answers": (", si nadie del equipo ha contestado", ", unless the team answers"),
    "anyone_answers": (", si nadie ha escrito", ", unless somebody writes"),
    "nothing": ("", ""),
}


def _reminder_set(w: _Words) -> str:
    when = w.moment("due_at")
    es, en = _UNLESS[w.values["unless"]]
    return w.say(f"puso un recordatorio para el {when}{es}", f"set a reminder for {when}{en}")


def _reminder_due(w: _Words) -> str:
    whom = w.name("to") or w.name("to_team")
    if not whom:
        return w.say("recordó esta conversación", "reminded of this conversation")
    return w.say(f"recordó esta conversación a {whom}", f"reminded {whom} of this conversation")


def _woken(w: _Words) -> str:
    return {
        "time": w.say("reactivó la conversación: llegó su hora", "woke this up: its time came"),
        "customer": w.say("reactivó la conversación al escribir", "woke this up by writing"),
    }.get(w.values["cause"], w.say("reactivó la conversación", "woke this up"))


def _assignee(w: _Words) -> str:
    v = w.values
    parts = []
    if v["to"] != v["from"]:
        if v["to"]:
            parts.append(w.say(f"asignó la conversación a {w.name('to')}", f"assigned this to {w.name('to')}"))
        else:
            parts.append(w.say(f"quitó la conversación a {w.name('from')}", f"took this from {w.name('from')}"))
    if v["to_team"] != v["from_team"]:
        if v["to_team"]:
            team = w.name("to_team")
            parts.append(w.say(f"la pasó al equipo {team}", f"passed it to the team {team}"))
        else:
            team = w.name("from_team")
            parts.append(w.say(f"la quitó del equipo {team}", f"took it from the team {team}"))
    return w.say(" y ", " and ").join(parts)


def _labels(w: _Words) -> str:
    added, removed = (", ".join(w.names.get(label, label) for label in w.values[one]) for one in ("added", "removed"))
    return _added_removed(w, added, removed, ("etiquetó con", "labelled"), "quitó")


def _participants(w: _Words) -> str:
    return _added_removed(w, w.named("added"), w.named("removed"), ("añadió a", "added"), "quitó a")


def _added_removed(w: _Words, added: str, removed: str, adding: tuple[str, str], taking: str) -> str:
    parts = [w.say(f"{adding[0]} {added}", f"{adding[1]} {added}")] if added else []
    parts += [w.say(f"{taking} {removed}", f"removed {removed}")] if removed else []
    return w.say(" y ", " and ").join(parts)


_PRIORITIES: Final = {
    "low": ("baja", "low"),
    "medium": ("media", "medium"),
    "high": ("alta", "high"),
    "urgent": ("urgente", "urgent"),
    None: ("ninguna", "none"),
}


def _priority(w: _Words) -> str:
    (es_from, en_from), (es_to, en_to) = _PRIORITIES[w.values["from"]], _PRIORITIES[w.values["to"]]
    return w.say(
        f"cambió la prioridad de {es_from} a {es_to}",
        f"changed the priority from {en_from} to {en_to}",
    )


def _subject(w: _Words) -> str:
    to = w.values["to"]
    if not to:
        return w.say("quitó el asunto", "took the subject away")
    return w.say(f"cambió el asunto a «{to}»", f"changed the subject to “{to}”")


def _owner(w: _Words) -> str:
    if w.values["to"]:
        return w.say(f"hizo a {w.name('to')} responsable del contacto", f"made {w.name('to')} the contact's owner")
    if w.values["to_team"]:
        team = w.name("to_team")
        return w.say(f"hizo al equipo {team} responsable del contacto", f"made the team {team} the contact's owner")
    return w.say("dejó el contacto sin responsable", "left the contact without an owner")


def _contact(w: _Words) -> str:
    if w.values["cause"] == "undo":
        return w.say("separó de nuevo el contacto", "told the contact apart again")
    return w.say("combinó el contacto con otro", "merged the contact with another one")


def _change_refused(w: _Words) -> str:
    why = w.values["to"] or "—"
    return w.say(
        f"avisa: el canal no pudo cambiar un mensaje, el cliente lo sigue viendo como estaba ({why})",
        f"warns: the channel could not change a message, the customer still sees it as it was ({why})",
    )


def _forwarded(w: _Words) -> str:
    to = ", ".join(w.values["to"]) or "—"
    if w.values["with_notes"]:
        return w.say(f"envió la conversación con sus notas a {to}", f"sent this with its notes to {to}")
    return w.say(f"envió la conversación a {to}", f"sent this to {to}")


def _rated(w: _Words) -> str:
    to, before = w.values["to"], w.values["from"]
    if before is None:
        return w.say(f"valoró la atención con {to} de 5", f"rated the service {to} out of 5")
    return w.say(f"cambió su valoración de {before} a {to} de 5", f"changed the rating from {before} to {to} out of 5")


def _attributes(w: _Words) -> str:
    def value(given: Any) -> str:
        if given is None:
            return "—"
        return {True: w.say("sí", "yes"), False: "no"}[given] if isinstance(given, bool) else str(given)

    told = ", ".join(f"{key}: {value(given)}" for key, given in sorted(w.values["to"].items()))
    return w.say(f"cambió {told}", f"set {told}")


_SENTENCES: Final[Mapping[str, Any]] = {
    "resolved": lambda w: w.say("resolvió la conversación", "resolved this"),
    "reopened": lambda w: w.say("reabrió la conversación", "reopened this"),
    "archived": lambda w: w.say("archivó la conversación", "archived this"),
    "unarchived": lambda w: w.say("desarchivó la conversación", "unarchived this"),
    "made_pending": lambda w: w.say("dejó la conversación al bot", "left this to the bot"),
    "taken_over": _taken_over,
    "spam": lambda w: w.say("marcó la conversación como correo no deseado", "marked this as spam"),
    "imported": lambda w: w.say("importó esta conversación de otro sistema", "imported this from another system"),
    "merged": lambda w: w.say("incorporó esta conversación a otra", "made this part of another conversation"),
    "absorbed": lambda w: w.say(
        "incorporó otra conversación, que sigue aquí", "merged another conversation, which follows"
    ),
    "unmerged": lambda w: w.say("separó de nuevo esta conversación", "told this apart again"),
    "split": lambda w: w.say("separó de nuevo la otra conversación", "told the other conversation apart again"),
    "snoozed": _snoozed,
    "woken": _woken,
    "reminder_set": _reminder_set,
    "reminder_due": _reminder_due,
    "assignee": _assignee,
    "contact": _contact,
    "owner": _owner,
    "labels": _labels,
    "participants": _participants,
    "priority": _priority,
    "subject": _subject,
    "attributes": _attributes,
    "survey_sent": lambda w: w.say("pidió al cliente su valoración", "asked the customer for a rating"),
    "survey_answered": _rated,
    "forwarded": _forwarded,
    "change_refused": _change_refused,
}
