"""Which events go to webhooks, and as what. What is internal, private notes and lines of activity, never does."""

import json
from datetime import datetime
from typing import Any, Final

from relevo.contracts import conversation as c
from relevo.contracts.automation import AlertRaised, RuleExecuted, SlaBreached, SlaMet, SlaWarned
from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.envelope import Envelope

_INTERNAL: Final = frozenset({"note", "activity"})
_OFFERED: Final[tuple[type[Model], ...]] = (
    c.ConversationOpened,
    c.ConversationReopened,
    c.ConversationResolved,
    c.ConversationArchived,
    c.ConversationUnarchived,
    c.ConversationSnoozed,
    c.ConversationWoken,
    c.ConversationMadePending,
    c.ConversationTakenOver,
    c.ConversationMarkedSpam,
    c.ConversationDeleted,
    c.ConversationMerged,
    c.ConversationUnmerged,
    c.PriorityChanged,
    c.SubjectChanged,
    c.AttributesChanged,
    c.LabelsChanged,
    c.AssigneeChanged,
    c.OwnerChanged,
    c.MessageCreated,
    c.MessageStatusChanged,
    c.MessageEdited,
    c.MessageDeleted,
    c.SurveySent,
    c.SurveyAnswered,
    c.ContactCreated,
    c.ContactUpdated,
    c.ContactDeleted,
    c.ContactMerged,
    c.ContactRestored,
    SlaWarned,
    SlaBreached,
    SlaMet,
    AlertRaised,
)
TYPES: Final = tuple(BY_MODEL[model].name for model in _OFFERED)
"""What an account may have posted, by the types of the events."""

RULE: Final = BY_MODEL[RuleExecuted].name
"""The type of what rules post."""

TEST: Final = "relevo.webhook.test.v1"
"""The type of what the test button posts."""


def leaves(event: Model) -> bool:
    """Whether an event of these types may leave."""
    message = getattr(event, "message", None)
    return message is None or message.kind not in _INTERNAL


def payload(envelope: Envelope, event: Model) -> str:
    """What is posted: who did what, when, and the event as the bus tells it."""
    head = {
        "type": envelope.type,
        "timestamp": envelope.time.isoformat().replace("+00:00", "Z"),
        "id": envelope.id,
        "account_id": envelope.account,
        "entity_id": envelope.entity,
        "sequence": envelope.sequence,
        "actor": envelope.actor,
    }
    return _with(head, event.model_dump_json())


def rule_payload(cause: Envelope, id_: str, executed: RuleExecuted, event: Model | None, at: datetime) -> str:
    """What a rule posts: that it fired, and the event that set it off, as the bus told it; null where it waited since."""
    head = {
        "type": RULE,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "id": id_,
        "account_id": cause.account,
        "entity_id": cause.entity,
        "sequence": cause.sequence,
        "actor": f"rule:{executed.rule_id}",
    }
    told = "null" if event is None else event.model_dump_json()
    return _with(head, f'{executed.model_dump_json()[:-1]},"event":{told}}}')


def trial_payload(head: dict[str, Any]) -> str:
    """What the test button posts."""
    return _with({"type": TEST, **head}, "{}")


def _with(head: dict[str, Any], data: str) -> str:
    return f'{json.dumps(head, separators=(",", ":"))[:-1]},"data":{data}}}'
