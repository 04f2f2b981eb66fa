"""What a conversation is described by: its labels, priority, subject and custom attributes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from relevo.contracts.conversation import (
    AttributesChanged,
    LabelsChanged,
    OwnerChanged,
    PriorityChanged,
    SubjectChanged,
)
from relevo.contracts.snapshots import AttributeValue, ContactSnapshot, Priority
from relevo.conversation.domain.state import Change, Conversation, Refused, following

MAX_LABELS: Final = 100


def change_labels(conversation: Conversation, add: Iterable[str], remove: Iterable[str], now: datetime) -> Change:
    """Put labels on, take others off; a label named in both stays. Raises Refused above MAX_LABELS."""
    before = conversation.state
    wanted = dict.fromkeys(add)
    off = set(remove) - wanted.keys()
    removed = tuple(label for label in before.labels if label in off)
    added = tuple(label for label in wanted if label not in before.labels)
    if not removed and not added:
        return Change(conversation, now)
    labels = (*(label for label in before.labels if label not in off), *added)
    if len(labels) > MAX_LABELS:
        raise Refused(
            "too_many_labels",
            es=f"Una conversación lleva como mucho {MAX_LABELS} etiquetas: quita alguna.",
            en=f"A conversation has at most {MAX_LABELS} labels: take some off.",
        )
    conversation = following(conversation, labels=labels)
    event = LabelsChanged(conversation=conversation.state, before=before.access, added=added, removed=removed)
    return Change(conversation, now, (event,))


def set_priority(conversation: Conversation, priority: Priority | None, now: datetime) -> Change:
    """Say how urgent the conversation is; None: nothing is said."""
    before = conversation.state
    if priority == before.priority:
        return Change(conversation, now)
    conversation = following(conversation, priority=priority)
    event = PriorityChanged(conversation=conversation.state, before=before.access, from_priority=before.priority)
    return Change(conversation, now, (event,))


def set_subject(conversation: Conversation, subject: str, now: datetime) -> Change:
    """Write the subject anew; an empty one takes it away."""
    before = conversation.state
    if subject == before.subject:
        return Change(conversation, now)
    conversation = following(conversation, subject=subject)
    event = SubjectChanged(conversation=conversation.state, before=before.access, from_subject=before.subject)
    return Change(conversation, now, (event,))


def owned_by(conversation: Conversation, contact: ContactSnapshot, now: datetime) -> Change:
    """The contact, as they are now, has another owner: whoever owns them sees their conversations."""
    before = conversation.state
    owners = (before.contact.owner_id, before.contact.owner_team_id)
    if owners == (contact.owner_id, contact.owner_team_id):
        return Change(conversation, now)
    conversation = following(conversation, contact=contact, owner_id=contact.owner_id)
    event = OwnerChanged(
        conversation=conversation.state,
        before=before.access,
        from_owner_id=owners[0],
        from_owner_team_id=owners[1],
    )
    return Change(conversation, now, (event,))


def set_attributes(conversation: Conversation, values: Mapping[str, AttributeValue | None], now: datetime) -> Change:
    """Give custom attributes these values, which fit their definitions; None takes one away. Others stay."""
    before = conversation.state
    attributes = dict(before.attributes)
    for key, value in values.items():
        if value is None:
            attributes.pop(key, None)
        else:
            attributes[key] = value
    changed = tuple(key for key in values if attributes.get(key) != before.attributes.get(key))
    if not changed:
        return Change(conversation, now)
    conversation = following(conversation, attributes=attributes)
    previous = {key: before.attributes[key] for key in changed if key in before.attributes}
    event = AttributesChanged(
        conversation=conversation.state, before=before.access, changed=changed, from_attributes=previous
    )
    return Change(conversation, now, (event,))
