"""A conversation to take away: what its customer has seen; for a colleague its private notes too."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from relevo.contracts.snapshots import ConversationSnapshot, MessageSnapshot

_SHOWN: Final = frozenset({"incoming", "outgoing"})
_WITH_NOTES: Final = _SHOWN | {"note"}


def written(
    state: ConversationSnapshot,
    messages: Iterable[MessageSnapshot],
    language: Literal["es", "en"],
    zone: str,
    *,
    notes: bool = False,
) -> str:
    """The public messages as plain text, in their order; times in ``zone`` (IANA). Private notes only where it says so."""
    es = language == "es"
    customer = state.contact.name or ("Cliente" if es else "Customer")
    lines = [f"{'Conversación' if es else 'Conversation'} {state.number}: {customer}"]
    if state.subject:
        lines.append(f"{'Asunto' if es else 'Subject'}: {state.subject}")
    for message in messages:
        if message.kind not in (_WITH_NOTES if notes else _SHOWN):
            continue
        who = customer if message.kind == "incoming" else message.author_name or ("Equipo" if es else "Team")
        if message.kind == "note":
            who += " (nota interna)" if es else " (private note)"
        lines += ["", f"{_moment(message.occurred_at, language, zone)}  {who}"]
        if message.text:
            lines.append(message.text)
        lines += [f"[{'adjunto' if es else 'attached'}: {one.name or one.content_type}]" for one in message.attachments]
    return "\n".join(lines) + "\n"


def _moment(at: datetime, language: Literal["es", "en"], zone: str) -> str:
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%d/%m/%Y %H:%M}" if language == "es" else f"{local:%Y-%m-%d %H:%M}"
