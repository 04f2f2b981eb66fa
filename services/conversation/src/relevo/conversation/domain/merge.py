"""Merging two contacts that are one person, and undoing it."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from relevo.contracts.conversation import ContactChanged
from relevo.contracts.snapshots import AttributeValue, ContactSnapshot
from relevo.conversation.domain.profile import EMPTY, Edited, Person, edit
from relevo.conversation.domain.properties import MAX_LABELS, owned_by
from relevo.conversation.domain.state import Change, Conversation, following

KEYS: Final = ("email", "phone", "identifier")


def merged(base: Person, other: Person) -> Edited:
    """The base after a merge: what it has stays, what it lacks the other fills; it has the labels of both."""
    values: dict[str, Any] = {
        name: getattr(other, name)
        for name, empty in EMPTY.items()
        if getattr(base, name) == empty and getattr(other, name) != empty
    }
    if base.owner_id is None and base.owner_team_id is None:
        values |= {"owner_id": other.owner_id, "owner_team_id": other.owner_team_id}
    labels = tuple(dict.fromkeys((*base.labels, *other.labels)))[:MAX_LABELS]
    fills: dict[str, AttributeValue | None] = {
        key: value for key, value in other.attributes.items() if key not in base.attributes
    }
    return edit(base, {**values, "labels": labels}, fills)


def unmerged(now: Person, before: Person, other: Person) -> Edited:
    """The base after a merge was undone: what the other had filled goes back, unless it was changed since.

    ``before`` is the base as it was merged. An e-mail, phone or identifier of the other's always goes back.
    """
    after = merged(before, other).person
    values: dict[str, Any] = {
        name: getattr(before, name)
        for name in EMPTY
        if getattr(now, name) == getattr(after, name) != getattr(before, name)
    }
    if (now.owner_id, now.owner_team_id) == (after.owner_id, after.owner_team_id):
        values |= {"owner_id": before.owner_id, "owner_team_id": before.owner_team_id}
    for name in KEYS:
        if (value := getattr(other, name)) is not None and values.get(name, getattr(now, name)) == value:
            values[name] = None
    given = {one for one in other.labels if one not in before.labels}
    labels = tuple(one for one in now.labels if one not in given)
    taken: dict[str, AttributeValue | None] = {
        key: None
        for key, value in other.attributes.items()
        if key not in before.attributes and now.attributes.get(key) == value
    }
    return edit(now, {**values, "labels": labels}, taken)


def restored(other: Person) -> Person:
    """The other as it was, after the event that told of the merge and the one that tells of this."""
    return replace(other, sequence=other.sequence + 2)


def hand_over(conversation: Conversation, contact: ContactSnapshot, now: datetime, *, undo: bool) -> Change:
    """The conversation is another contact's from now on, and that one's owner's."""
    from_contact = conversation.state.contact
    owners = {"owner_id": contact.owner_id, "owner_team_id": contact.owner_team_id}
    owned = owned_by(conversation, from_contact.model_copy(update=owners), now)
    before = owned.conversation.state
    conversation = following(owned.conversation, contact=contact)
    event = ContactChanged(
        conversation=conversation.state,
        before=before.access,
        from_contact_id=from_contact.id,
        cause="undo" if undo else "merge",
    )
    return Change(conversation, now, (*owned.events, event))
