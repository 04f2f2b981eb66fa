"""What reporting publishes: the metrics streams, a public interface."""

from typing import Literal

from relevo.contracts.base import Id, Model, Time

Unit = Literal["count", "seconds"]
Metric = Literal[
    "conversations_opened",
    "conversations_reopened",
    "conversations_resolved",
    "conversations_archived",
    "messages_in",
    "messages_out",
    "notes",
    "replies_delivered",
    "replies_failed",
    "first_response",
    "reply_time",
    "resolution",
    "wait_in_queue",
    "transfers",
    "rules_executed",
    "labels_added",
    "presence_seconds",
]


class Dimensions(Model):
    """What was true when it happened; later changes alter nothing."""

    agent_id: Id | None = None
    team_id: Id | None = None
    inbox_id: Id | None = None
    channel: str | None = None
    labels: tuple[str, ...] = ()
    priority: str | None = None
    language: str | None = None
    state: str | None = None
    rule_id: Id | None = None


class Fact(Model):
    """One thing that happened. ``value`` is 1 for counts, seconds for times; ``at`` is when it happened.

    ``fact_id`` is derived from the causing event and the metric: a fact that is seen twice is the same fact.
    """

    fact_id: Id
    metric: Metric
    unit: Unit
    value: float
    business_value: float | None = None
    at: Time
    start: Time | None = None
    conversation_id: Id | None = None
    cause_event_id: Id
    dimensions: Dimensions = Dimensions()


class RollupDelta(Model):
    """What a minute's total of one metric grew by. Deltas of all messages add up to the report."""

    metric: Metric
    minute: Time
    count: int
    sum: float
    unit: Unit


class Gauge(Model):
    """A live figure of the account, last value wins."""

    gauge: str
    value: float
    at: Time
