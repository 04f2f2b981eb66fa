"""What a pool holds: its teams, its conversations, and the decisions on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from relevo.assignment.domain.inputs import Entry, Mode
from relevo.assignment.domain.roster import GroupKey
from relevo.assignment.domain.skills import Needs
from relevo.assignment.domain.stays import Spot
from relevo.assignment.domain.units import UNIT
from relevo.contracts.assignment import DeclineReason, Outcome, Reason

State = Literal["assigned", "queued", "offered", "unassigned", "closed"]
Refusal = Literal[
    "conversation_not_found",
    "agent_not_found",
    "team_not_found",
    "agent_not_in_team",
    "version_conflict",
    "hand_was_first",
    "no_offer",
]
Place = tuple[int, datetime, str]
"""Order in a queue: the negated rank, since when it waits, the conversation's id. Where waiting weighs against priority:
zero, since when it waits less what its rank is worth, its id; so no place changes with time."""


@dataclass(slots=True)
class Team:
    """A team as assignment knows it."""

    id: str
    name: str = ""
    auto_assign: bool = True
    deleted: bool = False
    sequence: int = 0


class Ended(NamedTuple):
    """An offer that ended: to whom it was made, and when; how it ended, and why, where they declined and said so."""

    agent_id: str
    offered_at: datetime
    outcome: Outcome
    why: DeclineReason | None = None


class Had(NamedTuple):
    """Who had a conversation of a contact: the greatest of them had the last one. `still`: it is with them."""

    at: datetime
    conversation_id: str
    agent_id: str
    still: bool


@dataclass(slots=True)
class Held:
    """Who holds a conversation. `version` grows by one a change.

    A closed one (resolved, put off, or with a bot) takes no slot, waits in no queue, and keeps showing its last holder.
    """

    id: str
    inbox_id: str
    channel: str
    state: State
    opened_at: datetime
    version: int = 0
    team_id: str | None = None
    assignee_id: str | None = None
    queued_at: datetime | None = None
    rank: int = 1
    sequence: int = 0
    by_hand: bool = False
    """Somebody left it without an agent on purpose: nothing automatic touches it."""
    kept_for: str | None = None
    """The owner of its contact, whom it waits for."""
    held_since: datetime | None = None
    """Since when its holder has it, it waits with its team (also while it is offered), or for its owner; None: since before
    that was kept."""
    customer_since: datetime | None = None
    """Since when its customer waits for an answer, as far as the policy looks at it."""
    answered_at: datetime | None = None
    """Since when it waits for its customer, as far as the policy looked at it; None: it does not, or nobody looked."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the policy's rules look at, beyond what is here, by the names of `rules.FIELDS`."""
    rule: str = ""
    """The rule of the policy that it goes by; empty: none."""
    needs: Needs = ()
    """What whoever gets it from the queue must be able to at present; nothing while it has an agent."""
    contact_id: str | None = None
    """Whose it is: the contact it was opened with, or the first that was told; None: none was."""
    had_by: str | None = None
    """Who got it last, whether they have it still or not; None: nobody, or nobody said yet whose it is."""
    had_at: datetime | None = None
    """When they got it; or, once it has left them, when it did. It never becomes earlier."""
    notices: int = 0
    """How often its customer was told, since it waits, how long it will."""
    noticed_at: datetime | None = None
    weight: int = UNIT
    """What it takes of its holder's capacity, in hundredths of a unit, while it has one."""
    passed: tuple[str, ...] = ()
    """Who had it and let its customer wait: it goes to others, where there are any."""
    declined: tuple[str, ...] = ()
    """Who declined it since it last began to wait: it is not offered to them again, whether there are others or not."""
    offered_to: str | None = None
    """Whose answer is waited for: it takes a part of their capacity, and is still nobody's."""
    offered_at: datetime | None = None
    offered_until: datetime | None = None
    hand_version: int = 0
    """The version that a person decided last; 0: none did."""
    reason: Reason | None = None
    since: datetime | None = None
    """Since when it is where it is: held by this agent, or waiting at this place; None: it came with this very input."""
    stayed: Spot | None = field(init=False)
    """Where it was when that was noted last."""
    shown_assignee_id: str | None = field(init=False)
    """Assignee and team as the last decision left them: where the next one starts from."""
    shown_team_id: str | None = field(init=False)
    ended: Ended | None = field(init=False, default=None)
    """The offer that has just ended, until the decision on what becomes of it tells so."""

    def __post_init__(self) -> None:
        self.shown_assignee_id, self.shown_team_id = self.assignee_id, self.team_id
        self.stayed = self.spot

    @property
    def spot(self) -> Spot | None:
        """Where it is: with whom, or where in which queue; None: neither."""
        if self.state not in ("assigned", "queued"):
            return None
        return Spot(self.state, self.inbox_id, self.channel, self.team_id, self.assignee_id, self.queued_at, self.rank)

    @property
    def key(self) -> GroupKey:
        passed = tuple(sorted({*self.passed, *self.declined})) if self.declined else self.passed
        return GroupKey(self.inbox_id, self.team_id, passed, self.channel, self.rule, self.needs)

    @property
    def accepted(self) -> bool:
        """Whether whoever it was offered to has just taken it."""
        return self.ended is not None and self.ended.outcome == "accepted"

    def wait_anew(self) -> None:
        """Whoever let it lie, or declined it, may be given it again: it waits with somebody else, or for another reason."""
        self.passed = self.declined = ()

    def place(self, worth: int | None) -> Place:
        """Where it stands among those that wait. `worth`: how many seconds a step of priority is worth, as the policy says."""
        assert self.queued_at is not None
        if worth is None:
            return -self.rank, self.queued_at, self.id
        return 0, self.queued_at - timedelta(seconds=worth * self.rank), self.id


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of who holds a conversation, with everything that explains it."""

    entry: Entry
    conversation_id: str
    version: int
    kind: Literal["assigned", "queued", "offered", "unassigned"]
    assignee_id: str | None
    team_id: str | None
    from_assignee_id: str | None
    from_team_id: str | None
    mode: Mode
    actor: str
    reason: Reason
    queued_at: datetime | None
    waited_seconds: float | None
    policy_version: int
    rank: int
    passed: tuple[str, ...]
    rule: str = ""
    needs: Needs = ()
    candidates: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    runners_up: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()
    offered_to: str | None = None
    offered_until: datetime | None = None
    ended: Ended | None = None
    """The offer that ended with this."""
