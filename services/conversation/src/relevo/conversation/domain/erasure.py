"""Erasing a person: what is personal in an event, and what is left of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.domain.profile import Person

_EMPTIED: Final = frozenset(
    {
        "text",
        "from_text",
        "subject",
        "from_subject",
        "source_id",
        "recipient_id",
        "attachments",
        "addresses",
        "address",
        "new_text",
    }
)
_UNKNOWN: Final = frozenset({"external_id", "error"})
_CONTACT: Final[Mapping[str, Any]] = {"name": "", "email": None, "phone": None, "language": None, "labels": []}


def erased(person: Person) -> Person:
    """The contact without anything that tells who it is; whether they are blocked stays."""
    empty = Person(id=person.id, account_id=person.account_id)
    return replace(empty, blocked=person.blocked, created_at=person.created_at, sequence=person.sequence + 1)


def without_person(state: ConversationSnapshot, person: Person) -> ConversationSnapshot:
    """The conversation's state, likewise; its numbers, times and who worked on it stay."""
    return state.model_copy(
        update={"contact": person.snapshot, "subject": "", "source_id": nameless(state.id), "attributes": {}}
    )


def nameless(conversation_id: str) -> str:
    """What stands for the person's id in the channel from now on: another one for each conversation."""
    return f"erased-{conversation_id}"


def redacted(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an event of the contact's or of one of their conversations, as the log keeps it from now on.

    It still decodes as its model, and every id, number, time and status in it is what it was. Doing it twice changes
    nothing.
    """
    return {name: _redacted(name, value) for name, value in body.items()}


def _redacted(name: str, value: Any) -> Any:
    if name in _EMPTIED:
        return type(value)() if isinstance(value, str | list) else value
    if name in _UNKNOWN:
        return None
    if name in {"profile", "attributes", "data"}:
        return {}
    if name == "author_name":
        return ""
    if isinstance(value, Mapping):
        kept = redacted(value)
        return {**kept, **{one: empty for one, empty in _CONTACT.items() if one in kept}} if name == "contact" else kept
    if isinstance(value, list):
        return [redacted(one) if isinstance(one, Mapping) else one for one in value]
    return value
