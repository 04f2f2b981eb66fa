"""Rate limits: a token bucket for each key."""

from collections import OrderedDict
from typing import Final

_MOST: Final = 100_000


class Buckets:
    """`burst` requests at once, then `per_second`. Keeps the most recent keys only, so that strangers cannot fill it."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """0 when the request may pass, else in how many seconds one may. `now` is a monotonic clock in seconds."""
        level, at = self._levels.pop(key, (float(self._burst), now))
        level = min(level + (now - at) * self._per_second, float(self._burst))
        passes = level >= 1
        self._levels[key] = (level - 1 if passes else level, now)
        if len(self._levels) > _MOST:
            self._levels.popitem(last=False)
        return 0.0 if passes else (1 - level) / self._per_second
