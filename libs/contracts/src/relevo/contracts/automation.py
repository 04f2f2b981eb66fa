"""The automation service: what rules did, and how service levels are kept."""

from typing import Literal

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.presence import RoutingState
from relevo.contracts.snapshots import Priority

SlaMeasure = Literal["first_response", "next_response", "resolution"]


class RuleExecuted(Model):
    """A rule matched an event and its actions were ordered, in order. Inbox and channel are the conversation's."""

    rule_id: Id
    rule_version: int
    rule_name: str
    event_id: Id
    event_type: str
    conversation_id: Id
    inbox_id: Id | None = None
    channel: str | None = None
    actions: tuple[str, ...]


class SlaEvent(Model):
    """The base: one clock of a conversation under a policy, which began at ``started_at`` and is due at ``due_at``.

    ``calendar_id`` and ``calendar_version`` are of the calendar that counted, None where every second did. Who has the
    conversation is as things were when the clock was judged.
    """

    conversation_id: Id
    number: int
    inbox_id: Id
    channel: str
    assignee_id: Id | None = None
    team_id: Id | None = None
    priority: Priority | None = None
    cycle: int
    policy_id: Id
    policy_version: int
    measure: SlaMeasure
    target_seconds: int
    started_at: Time
    due_at: Time
    calendar_id: Id | None = None
    calendar_version: int | None = None


class SlaWarned(SlaEvent):
    """A clock is about to be overdue."""


class SlaBreached(SlaEvent):
    """A clock was not met: it is overdue, or what ended it came too late. Its time is when it was due."""


class SlaMet(SlaEvent):
    """A clock was met, in time, at ``done_at``."""

    done_at: Time


class AlertRaised(Model):
    """What a supervisor wanted to be told of has been so for as long as they said: of an agent, or of a whole team.

    ``state`` is the agent's, None where a team as a whole is meant.
    """

    alert_id: Id
    kind: Literal["status", "outside_shift", "nobody_available"]
    subscriber_id: Id
    agent_id: Id | None = None
    team_id: Id | None = None
    state: RoutingState | None = None
    minutes: int
