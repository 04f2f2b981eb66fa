"""What can set a rule off, and the facts that its conditions may ask for: those of the event's own snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationEvent,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    LabelsChanged,
    MessageCreated,
)
from relevo.contracts.envelope import Envelope
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.conditions import Facts, FieldType

Trigger = Literal[
    "message_received",
    "message_sent",
    "conversation_opened",
    "conversation_reopened",
    "conversation_resolved",
    "labels_changed",
    "assignee_changed",
]

_TRIGGERS: Final[Mapping[type[Model], frozenset[Trigger]]] = {
    MessageCreated: frozenset({"message_received", "message_sent"}),
    ConversationOpened: frozenset({"conversation_opened"}),
    ConversationReopened: frozenset({"conversation_reopened"}),
    ConversationResolved: frozenset({"conversation_resolved"}),
    LabelsChanged: frozenset({"labels_changed"}),
    AssigneeChanged: frozenset({"assignee_changed"}),
}
TRIGGERS_OF: Final[Mapping[str, frozenset[Trigger]]] = MappingProxyType(
    {BY_MODEL[model].name: triggers for model, triggers in _TRIGGERS.items()}
)
"""The triggers that an event of this type can be: told without decoding its body."""

_T = FieldType
_COMMON: Final[Mapping[str, FieldType]] = {
    "conversation.channel": _T.KEYWORD,
    "conversation.inbox_id": _T.KEYWORD,
    "conversation.status": _T.KEYWORD,
    "conversation.stage": _T.KEYWORD,
    "conversation.priority": _T.KEYWORD,
    "conversation.language": _T.KEYWORD,
    "conversation.subject": _T.TEXT,
    "conversation.labels": _T.LIST,
    "conversation.assignee_id": _T.KEYWORD,
    "conversation.team_id": _T.KEYWORD,
    "conversation.cycle": _T.NUMBER,
    "conversation.message_count": _T.NUMBER,
    "conversation.created_at": _T.DATETIME,
    "contact.name": _T.TEXT,
    "contact.email": _T.KEYWORD,
    "contact.phone": _T.KEYWORD,
    "contact.language": _T.KEYWORD,
    "contact.labels": _T.LIST,
    "actor": _T.KEYWORD,
    "business_hours": _T.BOOLEAN,
}
_MESSAGE: Final[Mapping[str, FieldType]] = {
    "message.text": _T.TEXT,
    "message.kind": _T.KEYWORD,
    "message.author": _T.KEYWORD,
    "message.first": _T.BOOLEAN,
    "message.attachments": _T.NUMBER,
}
FIELDS: Final[Mapping[Trigger, Mapping[str, FieldType]]] = MappingProxyType(
    {
        "message_received": {**_COMMON, **_MESSAGE},
        "message_sent": {**_COMMON, **_MESSAGE},
        "conversation_opened": _COMMON,
        "conversation_reopened": {**_COMMON, "reopened.cause": _T.KEYWORD},
        "conversation_resolved": _COMMON,
        "labels_changed": {**_COMMON, "labels.added": _T.LIST, "labels.removed": _T.LIST},
        "assignee_changed": {
            **_COMMON,
            "assignment.mode": _T.KEYWORD,
            "assignment.from_assignee_id": _T.KEYWORD,
            "assignment.from_team_id": _T.KEYWORD,
        },
    }
)
"""The fields that conditions may name, by trigger."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event as rules see it. `automated` tells that no person did it; `depth` how many automatic steps led here."""

    trigger: Trigger
    account_id: str
    event_id: str
    event_type: str
    actor: str
    depth: int
    automated: bool
    conversation: ConversationSnapshot
    facts: Facts


def occurrence(envelope: Envelope, data: Model) -> Occurrence | None:
    """The event as rules see it, None when it is no trigger (a private note, an activity line)."""
    trigger = _trigger(data)
    if trigger is None or not isinstance(data, ConversationEvent):
        return None
    return Occurrence(
        trigger=trigger,
        account_id=envelope.account,
        event_id=envelope.id,
        event_type=envelope.type,
        actor=envelope.actor,
        depth=envelope.depth,
        automated=isinstance(data, MessageCreated) and not data.human,
        conversation=data.conversation,
        facts=Facts(_facts(envelope, data)),
    )


def _trigger(data: Model) -> Trigger | None:
    if isinstance(data, MessageCreated):
        match data.message.kind:
            case "incoming":
                return "message_received"
            case "outgoing":
                return "message_sent"
            case _:
                return None
    if isinstance(data, LabelsChanged) and data.cause != "act":
        return None  # the label changed for the whole account: nothing happened to this conversation
    triggers = _TRIGGERS.get(type(data))
    return next(iter(triggers)) if triggers else None


SNAPSHOT_FIELDS: Final[Mapping[str, FieldType]] = {
    name: kind for name, kind in _COMMON.items() if name not in {"actor", "business_hours"}
}
"""The fields that a conversation's state alone answers, whatever happened."""


def snapshot_facts(conversation: ConversationSnapshot) -> dict[str, Any]:
    """The facts of a conversation's state."""
    contact = conversation.contact
    return {
        "conversation.channel": conversation.channel,
        "conversation.inbox_id": conversation.inbox_id,
        "conversation.status": conversation.status,
        "conversation.stage": conversation.stage,
        "conversation.priority": conversation.priority,
        "conversation.language": conversation.language,
        "conversation.subject": conversation.subject,
        "conversation.labels": conversation.labels,
        "conversation.assignee_id": conversation.assignee_id,
        "conversation.team_id": conversation.team_id,
        "conversation.cycle": conversation.cycle,
        "conversation.message_count": conversation.message_count,
        "conversation.created_at": conversation.created_at,
        "contact.name": contact.name,
        "contact.email": contact.email,
        "contact.phone": contact.phone,
        "contact.language": contact.language,
        "contact.labels": contact.labels,
    }


def _facts(envelope: Envelope, data: ConversationEvent) -> dict[str, Any]:
    values: dict[str, Any] = {
        "now": envelope.time,
        "actor": envelope.actor,
        # As of the event, by the version of the calendar that counted then; missing where none did.
        "business_hours": data.business_hours.open if data.business_hours else None,
        **snapshot_facts(data.conversation),
    }
    match data:
        case MessageCreated(message=message):
            values["message.text"] = message.text
            values["message.kind"] = message.kind
            values["message.author"] = message.author
            values["message.first"] = data.first
            values["message.attachments"] = len(message.attachments)
        case ConversationReopened():
            values["reopened.cause"] = data.cause
        case LabelsChanged():
            values["labels.added"] = data.added
            values["labels.removed"] = data.removed
        case AssigneeChanged():
            values["assignment.mode"] = data.mode
            values["assignment.from_assignee_id"] = data.from_assignee_id
            values["assignment.from_team_id"] = data.from_team_id
        case _:
            pass
    return values
