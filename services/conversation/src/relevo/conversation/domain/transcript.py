"""A conversation to take away: what its customer has seen; for a colleague its private notes too."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from relevo.contracts.snapshots import ConversationSnapshot, MessageSnapshot

Language = Literal["es", "en"]
Side = Literal["customer", "team", "note"]

_SHOWN: Final = frozenset({"incoming", "outgoing"})
_WITH_NOTES: Final = _SHOWN | {"note"}
_SIDES: Final[dict[str, Side]] = {"incoming": "customer", "outgoing": "team", "note": "note"}


@dataclass(frozen=True, slots=True)
class Said:
    """One message: when (in words) and by whom, what it said, and its attachments by name."""

    moment: str
    who: str
    side: Side
    text: str
    attachments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a transcript says, in whatever form: the subject may be empty."""

    title: str
    subject: str
    language: Language
    said: tuple[Said, ...]


def transcript(
    state: ConversationSnapshot,
    messages: Iterable[MessageSnapshot],
    language: Language,
    zone: str,
    *,
    notes: bool = False,
) -> Transcript:
    """The public messages in their order; times in ``zone`` (IANA). Private notes only where it says so."""
    es = language == "es"
    customer = state.contact.name or ("Cliente" if es else "Customer")
    said = []
    for message in messages:
        if message.kind not in (_WITH_NOTES if notes else _SHOWN):
            continue
        who = customer if message.kind == "incoming" else message.author_name or ("Equipo" if es else "Team")
        if message.kind == "note":
            who += " (nota interna)" if es else " (private note)"
        attached = tuple(one.name or one.content_type for one in message.attachments)
        moment = _moment(message.occurred_at, language, zone)
        said.append(Said(moment, who, _SIDES[message.kind], message.text, attached))
    title = f"{'Conversación' if es else 'Conversation'} {state.number}: {customer}"
    return Transcript(title, state.subject, language, tuple(said))


def written(one: Transcript) -> str:
    """A transcript as plain text."""
    es = one.language == "es"
    lines = [one.title]
    if one.subject:
        lines.append(f"{'Asunto' if es else 'Subject'}: {one.subject}")
    for said in one.said:
        lines += ["", f"{said.moment}  {said.who}"]
        if said.text:
            lines.append(said.text)
        lines += [f"[{'adjunto' if es else 'attached'}: {name}]" for name in said.attachments]
    return "\n".join(lines) + "\n"


def _moment(at: datetime, language: Language, zone: str) -> str:
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%d/%m/%Y %H:%M}" if language == "es" else f"{local:%Y-%m-%d %H:%M}"
