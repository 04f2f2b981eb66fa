"""What the story of a conversation must be like, whatever happened in it: its events alone, in their order."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from relevo.contracts.base import Model
from relevo.contracts.conversation import ConversationEvent

UNREDACTED = {"contact", "subject", "attributes", "source_id"}
"""What an erasure takes out of events after it has taken it out of the tables."""
_EVERY = {"sequence", "stage"}
CHANGES: dict[str, set[str]] = {
    "MessageCreated": {"message_count", "first_reply_at", "waiting_since", "last_activity_at", "last_responder_id"},
    "MessageStatusChanged": set(),
    "MessageEdited": set(),
    "MessageDeleted": set(),
    "MessageReacted": set(),
    "ConversationResolved": {"status", "snoozed_until", "resolved_at", "waiting_since"},
    "ConversationReopened": {
        "status", "cycle", "opened_at", "resolved_at", "first_reply_at", "people_since", "waiting_since",
        "last_activity_at",
    },
    "ConversationArchived": {"archived"},
    "ConversationUnarchived": {"archived"},
    "ConversationSnoozed": {"status", "snoozed_until"},
    "ConversationWoken": {"status", "snoozed_until", "last_activity_at"},
    "ConversationMadePending": {"status", "snoozed_until"},
    "ConversationTakenOver": {"status", "people_since"},
    "ConversationMarkedSpam": set(),
    "ConversationDeleted": set(),
    "PriorityChanged": {"priority"},
    "SubjectChanged": {"subject"},
    "AttributesChanged": {"attributes"},
    "LabelsChanged": {"labels"},
    "ParticipantsChanged": {"participant_ids"},
    "AssigneeChanged": {"assignee_id", "team_id"},
    "ContactChanged": set(),
    "SurveySent": set(),
    "SurveyAnswered": set(),
    "MessageChangeRefused": set(),
    "ConversationForwarded": set(),
    "ReminderSet": set(),
    "ReminderDue": set(),
    "ReminderCancelled": set(),
}  # fmt: skip
"""What of a conversation an event may change. Who the contact is now, and assignment's counter, anybody may learn anew."""


def folds(events: Sequence[ConversationEvent]) -> None:
    """Each event changes what it may, is the next number, and says truly who could see the conversation before it."""
    assert (events[0].before is None) == (events[0].conversation.sequence == 1)
    for earlier, later in pairwise(events):
        assert later.conversation.sequence == earlier.conversation.sequence + 1
        assert later.before == earlier.conversation.access
        allowed = CHANGES[type(later).__name__] | _EVERY | {"assignment_version", "contact"}
        changed = set(differences(earlier.conversation, later.conversation))
        # Of somebody who was erased, or of whom they were merged with meanwhile: those events tell of both.
        bare = not (earlier.conversation.contact.name and later.conversation.contact.name)
        assert changed <= allowed | (UNREDACTED if bare else set()), type(later)


def differences(one: Model, other: Model) -> Iterator[str]:
    for name in type(one).model_fields:
        if getattr(one, name) != getattr(other, name):
            yield name
