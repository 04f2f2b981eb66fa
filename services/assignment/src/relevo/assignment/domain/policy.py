"""How an account's conversations are handed out, and taken back."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

Strategy = Literal["round_robin", "least_loaded"]
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
    version: int = 1

    @property
    def watches_answers(self) -> bool:
        """Whether it matters since when customers wait for an answer."""
        return bool(self.taken_back)

    def same_times(self, other: "Policy") -> bool:
        """Whether nothing comes due at another moment under the other policy."""
        return (self.taken_back, self.out_of_shift) == (other.taken_back, other.out_of_shift)
