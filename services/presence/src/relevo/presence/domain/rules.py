"""What an account decided about statuses: named ones, and the rules by which a status changes by itself."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from relevo.contracts.presence import RoutingState


@dataclass(frozen=True, slots=True)
class Label:
    """A named status (Lunch, Training): a name for one of the routing states."""

    id: str
    state: RoutingState


@dataclass(frozen=True, slots=True)
class Rules:
    """An account's automatic rules. All are off as they come.

    They only ever lower what an agent who would be available is; what somebody chose stands.
    """

    busy_at: int | None = None
    """Busy from so many open conversations on."""
    busy_when_full: bool = False
    """Busy while at full capacity."""
    back_below: int | None = None
    """Available again with fewer open ones than this; as soon as the limit is not reached where None."""
    away_after: timedelta | None = None
    """Away after so long without a sign of the person at any device."""
    rest_after_received: int | None = None
    """A break after so many conversations received since signing in, the start of the shift, or the last break."""
    rest_after: timedelta | None = None
    """A break after so long."""
    rest: Label | None = None
    """The status of the break; without it there is none."""
    warning: timedelta = timedelta(minutes=5)
    """How long before a break the agent is told."""
    put_off: timedelta = timedelta(minutes=15)
    """By how much an agent may put a break off, once."""
    at_shift_end: Literal["stay", "offline"] = "stay"
    """What becomes of who is still there when their shift ends."""

    def limit(self, capacity: int | None) -> int | None:
        """From how many open conversations on an agent has too many; None: never."""
        limits = [self.busy_at] if self.busy_at is not None else []
        if self.busy_when_full and capacity is not None:
            limits.append(capacity)
        return min(limits, default=None)

    def crowded(self, crowded: bool, open_: int, capacity: int | None) -> bool:
        """Whether an agent with so many open conversations has too many; between the two limits it stays as it was."""
        limit = self.limit(capacity)
        if limit is None:
            return False
        if open_ >= limit:
            return True
        return crowded and self.back_below is not None and open_ >= self.back_below


NO_RULES = Rules()
