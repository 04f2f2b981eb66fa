"""The assignment service: who holds a conversation, and why."""

from typing import Literal

from pydantic import Field

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.snapshots import BusinessHours, Priority

ReasonCode = Literal[
    "round_robin",
    "least_loaded",
    "longest_idle",
    "most_skilled",
    "last_agent",
    "accepted",
    "declined",
    "offer_timed_out",
    "offer_withdrawn",
    "same_agent",
    "woken",
    "owner",
    "owner_absent",
    "manual",
    "self",
    "automation",
    "unassigned_by_hand",
    "resolved",
    "snoozed",
    "bot",
    "agent_removed",
    "holder_offline",
    "holder_away",
    "holder_off_shift",
    "unanswered",
    "overflow",
    "widened",
    "routing_rule",
    "team_changed",
    "no_agent_available",
    "all_at_capacity",
    "no_candidates",
]

Outcome = Literal["accepted", "declined", "timed_out", "withdrawn"]
"""How an offer ended; withdrawn: the agent could not take it any more, or it is somebody else's, or nobody's to take."""
DeclineReason = Literal["no_time", "not_my_field", "other"]


class Reason(Model):
    """Why a decision fell, as a code and in words."""

    code: ReasonCode
    es: str
    en: str


class EndedOffer(Model):
    """An offer that ended: to whom and when it was made, how it ended, and why, where they declined and said so."""

    agent_id: Id
    offered_at: Time
    outcome: Outcome
    why: DeclineReason | None = None


class AssignmentEvent(Model):
    """The base: the whole state of a conversation's assignment after the event.

    ``version`` grows by one a change; a consumer that has a higher one drops the event. ``inbox_id`` and ``channel``
    are the conversation's, for reports. ``ended_offer`` is the offer that ended with it, if one did.
    """

    conversation_id: Id
    inbox_id: Id | None = None
    channel: str | None = None
    version: int
    assignee_id: Id | None = None
    team_id: Id | None = None
    from_assignee_id: Id | None = None
    from_team_id: Id | None = None
    mode: Literal["automatic", "manual", "automation"] = "automatic"
    reason: Reason
    decision_id: Id | None = None
    queued_at: Time | None = None
    ended_offer: EndedOffer | None = None


class ConversationAssigned(AssignmentEvent):
    """A conversation got an agent (a transfer when it had another). ``waited_seconds`` is the time in the queue.

    ``waited_business_seconds`` is the business time of it by ``business_hours``; both None where no calendar counted.
    ``needs`` is what they had to be able to, where their turn came: as in ``ConversationQueued``, in the end.
    """

    waited_seconds: float | None = None
    waited_business_seconds: float | None = None
    business_hours: BusinessHours | None = None
    needs: dict[str, int] = Field(default_factory=dict)


class ConversationUnassigned(AssignmentEvent):
    """A conversation has no agent any more and does not wait for one."""


class ConversationQueued(AssignmentEvent):
    """A conversation waits for an agent. ``priority`` is that of its place: higher than its own where that was raised.

    ``needs`` is what whoever gets it must be able to: levels from 1 to 5 by skill. When less will do, it is told anew.
    """

    priority: Priority | None = None
    needs: dict[str, int] = Field(default_factory=dict)


class ConversationOffered(AssignmentEvent):
    """A conversation is offered to an agent, who may take it until then; it is nobody's, and takes of their capacity.

    It ends with the conversation's next event, which says how. ``needs`` as in ``ConversationQueued``.
    """

    agent_id: Id
    until: Time
    priority: Priority | None = None
    needs: dict[str, int] = Field(default_factory=dict)


class AgentLoadChanged(Model):
    """How many open conversations an agent holds, and may hold; and how many they got since this was last told.

    Told only of accounts whose presence rules look at it.
    """

    agent_id: Id
    open: int
    capacity: int
    received: int = 0


class Assign(Model):
    """Give a conversation to an agent, to a team, or to nobody (both None). From an agent it counts as by hand.

    ``seen_version`` is that of the assignment which the decision was based on: what a person decided later stands.
    """

    conversation_id: Id
    assignee_id: Id | None = None
    team_id: Id | None = None
    seen_version: int | None = None
