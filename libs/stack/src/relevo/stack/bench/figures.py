"""The arithmetic of a benchmark: percentiles, the schedule of an open loop, the search for the rate that holds. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Scenario = Literal["mix", "S1", "S2", "S6"]
"""Who writes. ``mix``: one message in ten is the first of a new contact; ``S1``: all are; ``S2``: none is; ``S6``: what
was sent before is sent again."""

EVERY_TENTH = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution in seconds."""

    count: int
    p50: float
    p95: float
    p99: float
    longest: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least ``share`` of all do not exceed. Raises ValueError for none."""
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def summarise(values: Iterable[float]) -> Latency | None:
    """The distribution of some values, in any order; None for none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Latency(
        len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.95), percentile(ordered, 0.99), ordered[-1]
    )


def due_by(elapsed: float, rate: float, total: int) -> int:
    """How many messages of an open loop must have left ``elapsed`` seconds after its start: number n at n / rate."""
    if elapsed < 0:
        return 0
    return min(math.floor(elapsed * rate + 1e-9) + 1, total)


def is_first(scenario: Scenario, number: int) -> bool:
    """Whether that message is the first of a new contact."""
    return scenario == "S1" or (scenario == "mix" and number % EVERY_TENTH == 0)


def is_matched(number: int) -> bool:
    """Whether one of the two rules matches that message. Not the same tenth as the new contacts of ``mix``."""
    return number % EVERY_TENTH == EVERY_TENTH // 2


class Search:
    """Finds the highest rate that holds: steps by ``step`` until one holds and one does not, then halves the gap.

    Noise on the machine makes a good rate fail and never a bad one hold: so a rate has failed only when it has failed
    ``tries`` times in a row, and holds when it has held once. Ends when the two are within ``precision`` of each
    other, after ``probes``, or below ``lowest``.
    """

    def __init__(
        self,
        start: float,
        *,
        step: float = 1.4,
        precision: float = 0.1,
        probes: int = 9,
        tries: int = 2,
        lowest: float = 5,
    ) -> None:
        self._step = step
        self._precision = precision
        self._left = probes
        self._tries = tries
        self._lowest = lowest
        self._failures = 0
        self.held: float | None = None
        self.failed: float | None = None
        self.next: float | None = max(start, lowest)

    def tell(self, *, held: bool) -> None:
        """What became of the probe at ``next``; ``next`` is then the following rate, None at the end."""
        assert self.next is not None, "the search has ended"
        self._left -= 1
        if held:
            self.held = self.next
        else:
            self._failures += 1
            if self._failures < self._tries and self._left > 0:
                return
            self.failed = self.next
        self._failures = 0
        self.next = self._following()

    def _following(self) -> float | None:
        if self._left <= 0:
            return None
        if self.held is None:
            assert self.failed is not None
            return None if self.failed <= self._lowest else max(self.failed / self._step, self._lowest)
        if self.failed is None:
            return self.held * self._step
        if self.failed / self.held <= 1 + self._precision:
            return None
        return math.sqrt(self.held * self.failed)
