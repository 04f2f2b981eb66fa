"""What a pool's journal holds: every input that may change who holds what, as plain data.

The journal stores an input as (kind, JSON). Same inputs in the same order on the same state give the same decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from relevo.assignment.domain.policy import Policy
from relevo.contracts.assignment import DeclineReason
from relevo.contracts.envelope import Envelope
from relevo.contracts.presence import RoutingState
from relevo.contracts.snapshots import Priority

Mode = Literal["automatic", "manual", "automation"]

RANK: Final[Mapping[Priority | None, int]] = {"urgent": 3, "high": 2, "medium": 1, None: 1, "low": 0}
"""Higher goes first. A conversation without a priority counts as medium."""
PRIORITIES: Final[Mapping[int, Priority]] = {rank: priority for priority, rank in RANK.items() if priority}


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation began; it waits since `at`. `sequence` numbers the events of the conversation."""

    conversation_id: str
    inbox_id: str
    channel: str
    at: datetime
    sequence: int
    team_id: str | None = None
    rank: int = 1
    owner_id: str | None = None
    """The agent whose customer it is; or the team."""
    owner_team_id: str | None = None
    customer_since: datetime | None = None
    """Since when its customer waits for an answer, where that is known already."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the policy's rules look at, by the names of `rules.FIELDS`."""
    contact_id: str | None = None
    """Whose conversation it is; None: it was noted before that was."""


@dataclass(frozen=True, slots=True)
class Reopened:
    """A closed conversation is to be worked on again, and waits since `at`."""

    conversation_id: str
    inbox_id: str
    channel: str
    at: datetime
    sequence: int
    team_id: str | None = None
    rank: int = 1
    owner_id: str | None = None
    owner_team_id: str | None = None
    customer_since: datetime | None = None
    kept: bool = False
    """It was put off: it goes back to whoever had it, there or not, if they have room."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    contact_id: str | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What the policy's rules look at became otherwise; `sequence` as in `Opened`. Told of accounts that have rules."""

    conversation_id: str
    facts: Mapping[str, Any]
    sequence: int


@dataclass(frozen=True, slots=True)
class CustomerWaits:
    """A customer waits for an answer since then; None: they have it, or it was put off. `sequence` as in `Opened`.

    Told of accounts whose policy looks at it.
    """

    conversation_id: str
    since: datetime | None
    sequence: int


@dataclass(frozen=True, slots=True)
class ConversationDue:
    """The moment came at which something was to be done about a conversation, unless it is otherwise by now."""

    conversation_id: str


@dataclass(frozen=True, slots=True)
class AgentDue:
    """Likewise about what an agent holds."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Nobody is to work on a conversation now: it takes no slot, and waits in no queue.

    It was resolved; or it was put off, or left to a bot, and comes back as `Reopened` or `Opened`.
    """

    conversation_id: str
    sequence: int
    why: Literal["resolved", "snoozed", "bot"] = "resolved"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A conversation became more or less urgent."""

    conversation_id: str
    rank: int
    sequence: int


@dataclass(frozen=True, slots=True)
class StatusGiven:
    """Presence says what an agent's status is; an older `sequence` than known is dropped."""

    agent_id: str
    state: RoutingState
    since: datetime
    sequence: int
    in_shift: bool | None = None
    """None: no shift is planned."""


@dataclass(frozen=True, slots=True)
class AgentEdited:
    """The directory's word on an agent; `active` False: removed. `inbox_ids` None: every inbox."""

    agent_id: str
    name: str
    active: bool
    team_ids: tuple[str, ...]
    inbox_ids: tuple[str, ...] | None
    sequence: int


@dataclass(frozen=True, slots=True)
class TeamEdited:
    """The directory's word on a team. Who is a member is told by the agents."""

    team_id: str
    name: str
    auto_assign: bool
    deleted: bool
    sequence: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Somebody decided. What is not set stays; a set assignee None means nobody, and no automatic assignment."""

    conversation_id: str
    actor: str
    mode: Literal["manual", "automation"]
    set_assignee: bool = False
    assignee_id: str | None = None
    set_team: bool = False
    team_id: str | None = None
    expected_version: int | None = None
    seen_version: int | None = None
    """What a person decided after this version stands."""


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    """Whom a conversation is offered to takes it, or does not, and may say why."""

    conversation_id: str
    agent_id: str
    accepted: bool
    why: DeclineReason | None = None


@dataclass(frozen=True, slots=True)
class PolicyEdited:
    """The account's policy is another from here on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class CapacitySet:
    """An agent's own capacity; None: the policy's default."""

    agent_id: str
    capacity: int | None


@dataclass(frozen=True, slots=True)
class SkillsSet:
    """What an agent can, all of it: levels by skill."""

    agent_id: str
    skills: Mapping[str, int]


Input = (
    Opened
    | Reopened
    | Closed
    | Ranked
    | Described
    | CustomerWaits
    | ConversationDue
    | AgentDue
    | StatusGiven
    | AgentEdited
    | TeamEdited
    | Assign
    | OfferAnswered
    | PolicyEdited
    | CapacitySet
    | SkillsSet
)

_KINDS: Final[Mapping[str, type[Input]]] = {
    "opened": Opened,
    "reopened": Reopened,
    "closed": Closed,
    "ranked": Ranked,
    "described": Described,
    "customer": CustomerWaits,
    "conversation_due": ConversationDue,
    "agent_due": AgentDue,
    "status": StatusGiven,
    "agent": AgentEdited,
    "team": TeamEdited,
    "assign": Assign,
    "answer": OfferAnswered,
    "policy": PolicyEdited,
    "capacity": CapacitySet,
    "skills": SkillsSet,
}
_NAMES: Final[Mapping[type[Input], str]] = {model: kind for kind, model in _KINDS.items()}
_ADAPTERS: Final[Mapping[str, TypeAdapter[Any]]] = {kind: TypeAdapter(model) for kind, model in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal: an input, when it was written down, and the event that brought it."""

    id: int
    at: datetime
    given: Input
    cause: Envelope | None = None


def encode(given: Input) -> tuple[str, str]:
    """The kind and the JSON of an input."""
    kind = _NAMES[type(given)]
    return kind, _ADAPTERS[kind].dump_json(given).decode()


def decode(kind: str, payload: object) -> Input:
    """An input from its kind and parsed JSON. Raises KeyError for an unknown kind, ValueError for a bad payload."""
    found: Input = _ADAPTERS[kind].validate_python(payload)
    return found
