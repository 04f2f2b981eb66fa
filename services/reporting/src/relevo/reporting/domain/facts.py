"""Which facts an event makes: a pure function of the event alone.

Everything a fact says is read from the event's own snapshot, so that replay in any order, on any day, gives the same
facts with the same ids. Dimensions are what was true when it happened.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from relevo.contracts.assignment import (
    AssignmentEvent,
    ConversationAssigned,
    ConversationOffered,
    ConversationQueued,
    ConversationUnassigned,
)
from relevo.contracts.automation import RuleExecuted, SlaBreached, SlaMet
from relevo.contracts.base import Model
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationArchived,
    ConversationEvent,
    ConversationImported,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationTakenOver,
    LabelsChanged,
    MessageCreated,
    MessageStatusChanged,
    SurveyAnswered,
    SurveySent,
)
from relevo.contracts.envelope import Envelope
from relevo.contracts.metrics import METRICS, Dimensions, Fact, Metric
from relevo.contracts.presence import StatusChanged
from relevo.contracts.snapshots import BusinessHours

_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_LONGEST_PRESENCE: Final = timedelta(days=400)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_OWN_TIMESTAMP: Final = 6  # the bytes of a UUIDv7 that hold its millisecond


def facts_of(envelope: Envelope, data: Model) -> list[Fact]:
    """The facts of one event, in a fixed order; none for events that reporting does not count.

    Pure: the same event gives the same facts with the same ids, whenever and however often it is asked. Values are
    seconds for times, never negative, and 1 for counts; times are UTC.
    """
    rule = _RULES.get(type(data))
    return rule(envelope, data) if rule else []


def fact_id(cause_event_id: str, metric: str, part: int = 0) -> str:
    """The id of a fact: derived from its cause, its metric and which of several it is.

    It begins with the timestamp of the cause (a UUIDv7), so that new facts lie together in an index.
    """
    digest = blake2b(f"{cause_event_id}/{metric}/{part}".encode(), digest_size=16).digest()
    raw = bytearray(digest)
    with suppress(ValueError):  # not one of our own ids: the digest alone identifies it as well
        raw[:_OWN_TIMESTAMP] = UUID(cause_event_id).bytes[:_OWN_TIMESTAMP]
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return str(UUID(bytes=bytes(raw)))


def happened_at(envelope: Envelope) -> datetime:
    """When the event happened; when it was recorded, if its clock was plainly wrong (in the future, before 2000)."""
    if _EARLIEST <= envelope.time <= envelope.recorded + _CLOCK_TOLERANCE:
        return envelope.time
    return envelope.recorded


def _fact(
    envelope: Envelope,
    metric: Metric,
    dimensions: Dimensions,
    *,
    value: float = 1.0,
    at: datetime | None = None,
    start: datetime | None = None,
    conversation_id: str | None = None,
    part: int = 0,
    id: str | None = None,  # noqa: A002
    replaces: tuple[str, float] | None = None,
    business: tuple[float | None, BusinessHours | None] = (None, None),
) -> Fact:
    replaced, replaced_value = replaces or (None, None)
    business_value, by = business
    measured = by if business_value is not None else None
    return Fact(
        fact_id=id or fact_id(envelope.id, metric, part),
        metric=metric,
        unit=METRICS[metric].unit,
        value=value,
        business_value=business_value,
        calendar_id=measured.calendar_id if measured else None,
        calendar_version=measured.calendar_version if measured else None,
        at=at or happened_at(envelope),
        start=start,
        conversation_id=conversation_id,
        cause_event_id=envelope.id,
        dimensions=dimensions,
        replaces=replaced,
        replaced_value=replaced_value,
    )


def _seconds(start: datetime, end: datetime) -> float:
    # Clocks of channels and of ours differ: a reply "before" its question took no time.
    return max(0.0, (end - start).total_seconds())


def _agent(actor: str) -> str | None:
    kind, _, identity = actor.partition(":")
    return identity if kind == "agent" and identity else None


def _dimensions(event: ConversationEvent, **differing: Any) -> Dimensions:
    conversation = event.conversation
    values: dict[str, Any] = {
        "agent_id": conversation.assignee_id,
        "team_id": conversation.team_id,
        "inbox_id": conversation.inbox_id,
        "channel": conversation.channel,
        "labels": conversation.labels,
        "priority": conversation.priority,
        "language": conversation.language,
    }
    return Dimensions(**{**values, **differing})


def _counted(metric: Metric) -> Callable[[Envelope, Any], list[Fact]]:
    def count(envelope: Envelope, event: ConversationEvent) -> list[Fact]:
        return [_fact(envelope, metric, _dimensions(event), conversation_id=event.conversation.id)]

    return count


def _imported(envelope: Envelope, event: ConversationImported) -> list[Fact]:
    """It counts when it began, and apart: nothing of it is in the figures of what happened here."""
    began = event.conversation.created_at
    at = began if _EARLIEST <= began <= envelope.recorded else happened_at(envelope)
    return [_fact(envelope, "conversations_imported", _dimensions(event), at=at, conversation_id=event.conversation.id)]


def _message(envelope: Envelope, event: MessageCreated) -> list[Fact]:
    message, conversation = event.message, event.conversation
    match message.kind:
        case "incoming":
            return [_fact(envelope, "messages_in", _dimensions(event), conversation_id=conversation.id)]
        case "note":
            by_author = _dimensions(event, agent_id=_agent(message.author))
            return [_fact(envelope, "notes", by_author, conversation_id=conversation.id)]
        case "outgoing":
            return _reply(envelope, event)
        case "activity":
            return []


def _reply(envelope: Envelope, event: MessageCreated) -> list[Fact]:
    message, conversation = event.message, event.conversation
    # Work belongs to who did it: the author, not the assignee; nobody for automatic messages.
    by_author = _dimensions(event, agent_id=_agent(message.author))
    facts = [_fact(envelope, "messages_out", by_author, conversation_id=conversation.id)]
    if event.human and event.first_reply and conversation.first_reply_at is not None:
        facts.append(
            _fact(
                envelope,
                "first_response",
                by_author,
                value=_seconds(conversation.answerable_since, conversation.first_reply_at),
                start=conversation.answerable_since,
                conversation_id=conversation.id,
                business=(event.first_reply_business_seconds, event.business_hours),
            )
        )
    if event.human and event.answered_since is not None:
        facts.append(
            _fact(
                envelope,
                "reply_time",
                by_author,
                value=_seconds(event.answered_since, message.occurred_at),
                start=event.answered_since,
                conversation_id=conversation.id,
                business=(event.answered_business_seconds, event.business_hours),
            )
        )
    return facts


_STATUS_METRICS: Final[Mapping[str, Metric]] = {"delivered": "replies_delivered", "failed": "replies_failed"}


def _status(envelope: Envelope, event: MessageStatusChanged) -> list[Fact]:
    metric = _STATUS_METRICS.get(event.message.status)
    if metric is None:
        return []
    by_author = _dimensions(event, agent_id=_agent(event.message.author))
    return [_fact(envelope, metric, by_author, conversation_id=event.conversation.id)]


def _resolved(envelope: Envelope, event: ConversationResolved) -> list[Fact]:
    conversation = event.conversation
    dimensions = _dimensions(event, agent_id=conversation.assignee_id or _agent(envelope.actor))
    facts = [_fact(envelope, "conversations_resolved", dimensions, conversation_id=conversation.id)]
    if conversation.resolved_at is not None:
        facts.append(
            _fact(
                envelope,
                "resolution",
                dimensions,
                value=_seconds(conversation.opened_at, conversation.resolved_at),
                start=conversation.opened_at,
                conversation_id=conversation.id,
                business=(event.resolution_business_seconds, event.business_hours),
            )
        )
    if envelope.actor.startswith("bot:"):
        facts.append(_fact(envelope, "bot_resolutions", dimensions, conversation_id=conversation.id))
    return facts


def _left_to_people(envelope: Envelope, event: ConversationTakenOver) -> list[Fact]:
    metric: Metric = "bot_takeovers" if event.reason == "taken" else "bot_handoffs"
    return [_fact(envelope, metric, _dimensions(event), conversation_id=event.conversation.id)]


def _assignee(envelope: Envelope, event: AssigneeChanged) -> list[Fact]:
    """A transfer: somebody had it and somebody else of the same kind took over. Taking or leaving it is none."""
    now = event.conversation
    moved = _other(event.from_assignee_id, now.assignee_id) or _other(event.from_team_id, now.team_id)
    return [_fact(envelope, "transfers", _dimensions(event), conversation_id=now.id)] if moved else []


def _other(before: str | None, after: str | None) -> bool:
    return before is not None and after is not None and before != after


def _labels(envelope: Envelope, event: LabelsChanged) -> list[Fact]:
    # One a label; its dimension is the label that was put on. It begins with the cycle, of which all counts for it.
    if event.cause != "act":
        return []
    return [
        _fact(
            envelope,
            "labels_added",
            _dimensions(event, labels=(label,)),
            start=event.conversation.opened_at,
            conversation_id=event.conversation.id,
            part=number,
        )
        for number, label in enumerate(event.added)
    ]


def _asked(envelope: Envelope, event: SurveySent) -> list[Fact]:
    dimensions = _dimensions(event, agent_id=event.agent_id, team_id=event.team_id)
    return [_fact(envelope, "surveys_sent", dimensions, conversation_id=event.conversation.id)]


def _rated(envelope: Envelope, event: SurveyAnswered) -> list[Fact]:
    """One rating a survey, of the moment of its first answer: a changed one takes the place of the one before."""

    def named(version: int) -> str:
        return fact_id(event.survey_id, "satisfaction", version)

    before = None
    if event.previous_rating is not None:
        before = named(event.version - 1), float(event.previous_rating)
    return [
        _fact(
            envelope,
            "satisfaction",
            _dimensions(event, agent_id=event.agent_id, team_id=event.team_id, state=str(event.rating)),
            value=float(event.rating),
            at=event.answered_at,
            conversation_id=event.conversation.id,
            id=named(event.version),
            replaces=before,
        )
    ]


_ANSWERED: Final[Mapping[str, Metric]] = {
    "accepted": "offers_accepted",
    "declined": "offers_declined",
    "timed_out": "offers_timed_out",
}


def _answered(envelope: Envelope, event: AssignmentEvent) -> list[Fact]:
    """The offer that ended with it, of whoever was asked; one that was withdrawn was nobody's to answer."""
    offer = event.ended_offer
    metric = _ANSWERED.get(offer.outcome) if offer is not None else None
    if offer is None or metric is None:
        return []
    dimensions = Dimensions(
        agent_id=offer.agent_id, team_id=event.team_id, inbox_id=event.inbox_id, channel=event.channel, state=offer.why
    )
    return [_fact(envelope, metric, dimensions, conversation_id=event.conversation_id)]


def _assigned(envelope: Envelope, event: ConversationAssigned) -> list[Fact]:
    answered = _answered(envelope, event)
    if event.waited_seconds is None:
        return answered
    dimensions = Dimensions(
        agent_id=event.assignee_id, team_id=event.team_id, inbox_id=event.inbox_id, channel=event.channel
    )
    return [
        *answered,
        _fact(
            envelope,
            "wait_in_queue",
            dimensions,
            value=max(0.0, event.waited_seconds),
            start=event.queued_at,
            conversation_id=event.conversation_id,
            business=(event.waited_business_seconds, event.business_hours),
        ),
    ]


def _executed(envelope: Envelope, event: RuleExecuted) -> list[Fact]:
    dimensions = Dimensions(rule_id=event.rule_id, inbox_id=event.inbox_id, channel=event.channel)
    return [_fact(envelope, "rules_executed", dimensions, conversation_id=event.conversation_id)]


def _kept(envelope: Envelope, event: SlaMet | SlaBreached) -> list[Fact]:
    dimensions = Dimensions(
        agent_id=event.assignee_id,
        team_id=event.team_id,
        inbox_id=event.inbox_id,
        channel=event.channel,
        priority=event.priority,
    )
    metric: Metric = "sla_met" if isinstance(event, SlaMet) else "sla_missed"
    return [_fact(envelope, metric, dimensions, conversation_id=event.conversation_id)]


def _presence(envelope: Envelope, event: StatusChanged) -> list[Fact]:
    """The interval that ended, cut at the hours (UTC) and counted where each part began: a night's shift is of two days.

    Of an interval longer than 400 days only the last 400 count: it is a forgotten account or a wrong clock.
    """
    dimensions = Dimensions(agent_id=event.status.agent_id, state=event.previous)
    end = min(event.status.since, envelope.recorded)
    start = max(event.previous_since, end - _LONGEST_PRESENCE)
    facts: list[Fact] = []
    while start < end:
        following = min(end, start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1))
        seconds = _seconds(start, following)
        facts.append(
            _fact(envelope, "presence_seconds", dimensions, value=seconds, at=start, start=start, part=len(facts))
        )
        start = following
    return facts


_RULES: Final[Mapping[type[Model], Callable[[Envelope, Any], list[Fact]]]] = {
    ConversationOpened: _counted("conversations_opened"),
    ConversationReopened: _counted("conversations_reopened"),
    ConversationResolved: _resolved,
    ConversationTakenOver: _left_to_people,
    ConversationArchived: _counted("conversations_archived"),
    ConversationImported: _imported,
    MessageCreated: _message,
    MessageStatusChanged: _status,
    LabelsChanged: _labels,
    AssigneeChanged: _assignee,
    SurveySent: _asked,
    SurveyAnswered: _rated,
    ConversationAssigned: _assigned,
    ConversationOffered: _answered,
    ConversationQueued: _answered,
    ConversationUnassigned: _answered,
    RuleExecuted: _executed,
    SlaBreached: _kept,
    SlaMet: _kept,
    StatusChanged: _presence,
}
