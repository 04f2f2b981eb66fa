"""Erasing a person: what is left of a contact and of the state of their conversations."""

from dataclasses import replace

from relevo.contracts.personal import nameless
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.domain.profile import Person


def erased(person: Person) -> Person:
    """The contact without anything that tells who it is; whether they are blocked stays."""
    empty = Person(id=person.id, account_id=person.account_id)
    return replace(empty, blocked=person.blocked, created_at=person.created_at, sequence=person.sequence + 1)


def without_person(state: ConversationSnapshot, person: Person) -> ConversationSnapshot:
    """The conversation's state, likewise; its numbers, times and who worked on it stay."""
    return state.model_copy(
        update={"contact": person.snapshot, "subject": "", "source_id": nameless(state.id), "attributes": {}}
    )
