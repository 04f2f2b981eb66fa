"""How an account's conversations are handed out, and taken back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

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
    """How an account's conversations are handed out. `default_capacity` counts open conversations."""

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
    version: int = 1

    @property
    def watches_answers(self) -> bool:
        """Whether it matters since when customers wait for an answer."""
        return bool(self.taken_back)

    def same_times(self, other: "Policy") -> bool:
        """Whether nothing comes due at another moment under the other policy."""
        mine, others = ((one.taken_back, one.overflow, one.out_of_shift) for one in (self, other))
        return mine == others
