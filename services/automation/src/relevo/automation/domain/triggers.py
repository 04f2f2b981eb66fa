"""What can set a rule off, and the facts that its conditions may ask for: those of the event's own snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from relevo.automation.domain.fields import (
    CHANGE,
    CONTACT,
    CONVERSATION,
    EVENT,
    MESSAGE,
    SLA,
    Fields,
    contact_facts,
    snapshot_facts,
)
from relevo.contracts.automation import SlaBreached, SlaEvent, SlaWarned
from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import (
    AssigneeChanged,
    AttributesChanged,
    ContactUpdated,
    ConversationArchived,
    ConversationEvent,
    ConversationMadePending,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationReviewed,
    ConversationSnoozed,
    ConversationTakenOver,
    ConversationUnarchived,
    ConversationWoken,
    LabelsChanged,
    MessageCreated,
    OwnerChanged,
    PriorityChanged,
    SubjectChanged,
    SurveyAnswered,
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
    "conversation_archived",
    "conversation_snoozed",
    "conversation_woken",
    "conversation_given_to_bot",
    "conversation_taken_over",
    "conversation_updated",
    "labels_changed",
    "assignee_changed",
    "owner_changed",
    "priority_changed",
    "subject_changed",
    "attributes_changed",
    "contact_updated",
    "survey_answered",
    "sla_warned",
    "sla_breached",
    "schedule",
    "nobody_available",
]
"""`conversation_updated` is any change of a conversation that there is already, but a message: it comes beside its own trigger.
`schedule`, `nobody_available`: the rule's own times, of each conversation that it is about then."""

_UPDATED: Final = "conversation_updated"
_TRIGGERS: Final[Mapping[type[Model], tuple[Trigger, ...]]] = {
    MessageCreated: ("message_received", "message_sent"),
    ConversationOpened: ("conversation_opened",),
    ConversationReopened: ("conversation_reopened", _UPDATED),
    ConversationResolved: ("conversation_resolved", _UPDATED),
    ConversationArchived: ("conversation_archived", _UPDATED),
    ConversationUnarchived: (_UPDATED,),
    ConversationSnoozed: ("conversation_snoozed", _UPDATED),
    ConversationWoken: ("conversation_woken", _UPDATED),
    ConversationMadePending: ("conversation_given_to_bot", _UPDATED),
    ConversationTakenOver: ("conversation_taken_over", _UPDATED),
    LabelsChanged: ("labels_changed", _UPDATED),
    AssigneeChanged: ("assignee_changed", _UPDATED),
    OwnerChanged: ("owner_changed", _UPDATED),
    PriorityChanged: ("priority_changed", _UPDATED),
    SubjectChanged: ("subject_changed", _UPDATED),
    AttributesChanged: ("attributes_changed", _UPDATED),
    ContactUpdated: ("contact_updated",),
    SurveyAnswered: ("survey_answered",),
    SlaWarned: ("sla_warned",),
    SlaBreached: ("sla_breached",),
    ConversationReviewed: ("schedule", "nobody_available"),
}
TRIGGERS_OF: Final[Mapping[str, frozenset[Trigger]]] = MappingProxyType(
    {BY_MODEL[model].name: frozenset(triggers) for model, triggers in _TRIGGERS.items()}
)
"""The triggers that an event of this type can be: told without decoding its body."""

_T = FieldType
_STATE: Final = {**CONVERSATION, **CONTACT, **EVENT}
_CHANGED: Final = {**_STATE, **CHANGE}
_OWN: Final[Mapping[Trigger, Mapping[str, FieldType]]] = {
    "message_received": {**_STATE, **MESSAGE},
    "message_sent": {**_STATE, **MESSAGE},
    "conversation_opened": _STATE,
    "conversation_reopened": {**_CHANGED, "reopened.cause": _T.KEYWORD},
    "conversation_woken": {**_CHANGED, "woken.cause": _T.KEYWORD},
    "conversation_taken_over": {**_CHANGED, "taken_over.reason": _T.KEYWORD},
    "labels_changed": {**_CHANGED, "labels.added": _T.LIST, "labels.removed": _T.LIST},
    "assignee_changed": {
        **_CHANGED,
        "assignment.mode": _T.KEYWORD,
        "assignment.from_assignee_id": _T.KEYWORD,
        "assignment.from_team_id": _T.KEYWORD,
    },
    "contact_updated": {**CONTACT, "actor": _T.KEYWORD, "changed": _T.LIST},
    "survey_answered": {
        **_STATE,
        "survey.rating": _T.NUMBER,
        "survey.previous_rating": _T.NUMBER,
        "survey.commented": _T.BOOLEAN,
        "survey.agent_id": _T.KEYWORD,
        "survey.team_id": _T.KEYWORD,
    },
    "sla_warned": SLA,
    "sla_breached": SLA,
    "schedule": _STATE,
    "nobody_available": _STATE,
}
FIELDS: Final[Mapping[Trigger, Fields]] = MappingProxyType(
    {
        trigger: Fields(_OWN.get(trigger, _CHANGED))
        for trigger in dict.fromkeys(trigger for triggers in _TRIGGERS.values() for trigger in triggers)
    }
)
"""The fields that conditions may name, by trigger."""

WITHOUT_CONVERSATION: Final[frozenset[Trigger]] = frozenset({"contact_updated"})
"""What happens to no conversation: only actions that need none can follow."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What actions act upon: a conversation as it was at the event, or with ``conversation_id`` None a contact.

    ``assignment_version`` is what the event knew of the assignment, None where it knew nothing.
    """

    conversation_id: str | None
    entity: str
    number: int | None = None
    inbox_id: str | None = None
    channel: str | None = None
    team_id: str | None = None
    assignment_version: int | None = None
    owner_id: str | None = None
    owner_team_id: str | None = None
    last_responder_id: str | None = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event as rules see it. `automated` tells that no person did it; `depth` how many automatic steps led here.

    ``of_rule``: the one rule that it is for, where it is for no other.
    """

    triggers: tuple[Trigger, ...]
    account_id: str
    event_id: str
    event_type: str
    at: datetime
    actor: str
    depth: int
    automated: bool
    subject: Subject
    facts: Facts
    data: Model
    of_rule: str | None = None


def occurrence(envelope: Envelope, data: Model) -> Occurrence | None:
    """The event as rules see it, None when it is no trigger (a private note, an activity line)."""
    triggers = _triggers(data)
    if not triggers:
        return None
    match data:
        case ConversationEvent() | ConversationReviewed():
            subject, values = subject_of(data.conversation), _facts(data)
        case SlaEvent():
            subject, values = _under_sla(data), _sla_facts(data)
        case ContactUpdated(contact=contact):
            subject = Subject(None, contact.id, owner_id=contact.owner_id, owner_team_id=contact.owner_team_id)
            values = {**contact_facts(contact), "changed": data.changed}
        case _:
            raise TypeError(f"a trigger without facts: {type(data).__name__}")
    return Occurrence(
        triggers=triggers,
        account_id=envelope.account,
        event_id=envelope.id,
        event_type=envelope.type,
        at=envelope.time,
        actor=envelope.actor,
        depth=envelope.depth,
        automated=isinstance(data, MessageCreated) and not data.human,
        subject=subject,
        facts=Facts({"now": envelope.time, "actor": envelope.actor, **values}),
        data=data,
        of_rule=data.rule_id if isinstance(data, ConversationReviewed) else None,
    )


def _triggers(data: Model) -> tuple[Trigger, ...]:
    if isinstance(data, MessageCreated):
        match data.message.kind:
            case "incoming":
                return ("message_received",)
            case "outgoing":
                return ("message_sent",)
            case _:
                return ()
    if isinstance(data, LabelsChanged) and data.cause != "act":
        return ()  # the label changed for the whole account: nothing happened to this conversation
    return _TRIGGERS.get(type(data), ())


def subject_of(conversation: ConversationSnapshot) -> Subject:
    """A conversation as what actions act upon."""
    return Subject(
        conversation_id=conversation.id,
        entity=conversation.id,
        number=conversation.number,
        inbox_id=conversation.inbox_id,
        channel=conversation.channel,
        team_id=conversation.team_id,
        assignment_version=conversation.assignment_version,
        owner_id=conversation.contact.owner_id,
        owner_team_id=conversation.contact.owner_team_id,
        last_responder_id=conversation.last_responder_id,
    )


def _under_sla(data: SlaEvent) -> Subject:
    return Subject(
        data.conversation_id, data.conversation_id, data.number, data.inbox_id, data.channel, team_id=data.team_id
    )


def _sla_facts(data: SlaEvent) -> dict[str, Any]:
    return {
        "conversation.channel": data.channel,
        "conversation.inbox_id": data.inbox_id,
        "conversation.priority": data.priority,
        "conversation.assignee_id": data.assignee_id,
        "conversation.team_id": data.team_id,
        "conversation.cycle": data.cycle,
        "sla.measure": data.measure,
        "sla.policy_id": data.policy_id,
        "sla.target_seconds": data.target_seconds,
        "sla.due_at": data.due_at,
    }


def _facts(data: ConversationEvent | ConversationReviewed) -> dict[str, Any]:
    values: dict[str, Any] = {
        # As of the event, by the version of the calendar that counted then; missing where none did.
        "business_hours": data.business_hours.open if data.business_hours else None,
        **snapshot_facts(data.conversation),
    }
    match data:
        case MessageCreated(message=message):
            values["message.text"] = message.text
            values["message.kind"] = message.kind
            values["message.author"] = message.author
            values["message.author_name"] = message.author_name
            values["message.first"] = data.first
            values["message.attachments"] = len(message.attachments)
            return values
        case SurveyAnswered():
            values["survey.rating"] = data.rating
            values["survey.previous_rating"] = data.previous_rating
            values["survey.commented"] = data.commented
            values["survey.agent_id"] = data.agent_id
            values["survey.team_id"] = data.team_id
            return values
        case ConversationOpened() | ConversationReviewed():
            return values
    values.update(dict.fromkeys(CHANGE))
    values["changed"], previous = _change(data)
    values.update({f"previous.{name}": value for name, value in previous.items()})
    match data:
        case ConversationReopened():
            values["reopened.cause"] = data.cause
        case ConversationWoken():
            values["woken.cause"] = data.cause
        case ConversationTakenOver():
            values["taken_over.reason"] = data.reason
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


def _change(data: ConversationEvent) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What changed, by name, and what it was before, as far as the event tells."""
    one = data.conversation
    match data:
        case LabelsChanged():
            before = (*(label for label in one.labels if label not in data.added), *data.removed)
            return ("labels",), {"labels": before}
        case PriorityChanged():
            return ("priority",), {"priority": data.from_priority}
        case SubjectChanged():
            return ("subject",), {"subject": data.from_subject}
        case AttributesChanged():
            names = tuple(f"attributes.{name}" for name in data.changed)
            return names, {f"attributes.{name}": value for name, value in data.from_attributes.items()}
        case OwnerChanged():
            return ("owner",), {"owner_id": data.from_owner_id}
        case AssigneeChanged():
            was = {"assignee_id": data.from_assignee_id, "team_id": data.from_team_id}
            held = (("assignee", one.assignee_id, "assignee_id"), ("team", one.team_id, "team_id"))
            return tuple(name for name, value, key in held if value != was[key]), was
        case _:
            return ("status",), {}
