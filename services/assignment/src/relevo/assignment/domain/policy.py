"""How an account's conversations are handed out, and taken back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from relevo.assignment.domain.units import UNIT, Share, Weight

Strategy = Literal["round_robin", "least_loaded", "longest_idle"]
Cause = Literal["offline", "away", "off_shift", "unanswered"]

LONGEST_SECONDS: Final = 30 * 86_400
Seconds = Annotated[int, Field(ge=0, le=LONGEST_SECONDS)]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """What becomes of a conversation whose holder has been `cause` for so long; `unanswered`: has not answered it.

    It waits in the queue again, since its customer does, or becomes a team's; with ``raise_priority`` one rank higher.
    """

    cause: Cause
    after_seconds: Seconds
    to: Literal["queue", "team"] = "queue"
    team_id: str | None = None
    raise_priority: bool = False


@dataclass(frozen=True, slots=True)
class Overflow:
    """What has waited for so long in a team's queue (None: in that of no team) becomes another team's."""

    team_id: str | None
    after_seconds: Seconds
    to_team_id: str


@dataclass(frozen=True, slots=True)
class Lighter:
    """What waits for its customer takes only this part of its weight, once its holder has had it so for so long."""

    after_seconds: Seconds
    share: Share


class Terms(NamedTuple):
    """On which terms conversations of one kind are given; those with the same terms have the same free agents.

    `weight` is what one takes, in hundredths of a unit; `default_capacity` is in units.
    """

    strategy: Strategy = "round_robin"
    default_capacity: int = 10
    busy_as_fallback: bool = False
    out_of_shift: bool = False
    weight: int = UNIT


def endless(overflow: Sequence[Overflow]) -> int | None:
    """The place of the first rule with which conversations would go round for ever; None: there is none."""
    targets: dict[str | None, str] = {}
    for place, one in enumerate(overflow):
        targets.setdefault(one.team_id, one.to_team_id)
        team: str | None = one.to_team_id
        while team != one.team_id and team in targets:
            team = targets[team]
        if team == one.team_id:
            return place
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """How an account's conversations are handed out. `default_capacity` is in units; a conversation takes one."""

    strategy: Strategy = "round_robin"
    default_capacity: int = 10
    busy_as_fallback: bool = False
    out_of_shift: bool = False
    """Whether who is there outside of their shift gets work."""
    owner_first: bool = True
    """Whether the contact's owner goes before everybody else."""
    owner_absent: Literal["anyone", "wait"] = "anyone"
    """What becomes of a conversation whose owner is not there: it goes to anyone, or lies in the inbox until they are."""
    taken_back: tuple[TakeBack, ...] = ()
    """At most one for each cause; for what is not named a conversation stays with its holder."""
    overflow: tuple[Overflow, ...] = ()
    """At most one for each team; chains end."""
    channel_weights: Mapping[str, Weight] = field(default_factory=dict)
    """What conversations of a channel take, where that is not one unit."""
    lighter: Lighter | None = None
    """None: those that wait for their customer take as much as the others."""
    version: int = 1

    @property
    def watches_answers(self) -> bool:
        """Whether it matters since when customers wait for an answer, or are waited for."""
        return bool(self.taken_back) or self.lighter is not None

    @property
    def weighs(self) -> bool:
        """Whether some conversations take more, or less, than others."""
        return bool(self.channel_weights) or self.lighter is not None

    def weight(self, channel: str) -> int:
        """What a conversation of the channel takes, in hundredths of a unit."""
        return self.channel_weights.get(channel, UNIT)

    @property
    def lightest(self) -> int:
        """What the lightest conversation takes, in hundredths of a unit."""
        return min((UNIT, *self.channel_weights.values()))

    def terms(self, channel: str) -> Terms:
        """The terms on which conversations of the channel are given."""
        return Terms(
            self.strategy, self.default_capacity, self.busy_as_fallback, self.out_of_shift, self.weight(channel)
        )

    def same_for_open(self, other: "Policy") -> bool:
        """Whether nothing that is open comes due at another moment, or takes more or less, under the other policy."""
        mine, others = (
            (one.taken_back, one.overflow, one.out_of_shift, one.channel_weights, one.lighter) for one in (self, other)
        )
        return mine == others


_ADAPTER: Final = TypeAdapter(Policy)


def written(policy: Policy) -> dict[str, Any]:
    """A policy as JSON has it."""
    found: dict[str, Any] = _ADAPTER.dump_python(policy, mode="json")
    return found


def read(stored: object) -> Policy:
    """A policy from what `written` gave, now or in an earlier version. Raises ValueError."""
    return _ADAPTER.validate_python(stored)
