"""Who may come in at once while services behind ingest fall behind, and who waits.

One number is moved: the level, the messages a second that every account may bring. It falls while services tell that
events wait too long and few accounts bring most of what comes, and rises while they do not; without need there is
none. Who brings less than the level is never held up, who brings more shares what is left in equal parts: that is
max-min fairness, whatever the level is.

Times are seconds of one monotonic clock, given by the caller. Nothing here is kept beyond the process.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

OUTAGE: Final = 30.0
"""Seconds; what has waited longer waits because a service was away, and holding messages up here would not help it."""
_HOLD: Final = 0.4
"""How long a telling counts; services tell every tenth of a second."""
_STEP: Final = 0.25
"""Between two looks at who is to blame: sooner, a first cut is not felt yet."""
_FIRST: Final = 0.2
"""What is left of the largest account's rate at the first cut: a flood queues up for everybody within a second."""
_HARD: Final = 0.5
_SOFT: Final = 0.8
_DEEP: Final = 0.1
"""So much of the rate at the first cut: below that the level falls by ``_GENTLE``. Either it is enough, or the volume is not the cause."""
_GENTLE: Final = 0.97
_FAST: Final = 1.5
"""By what the level is multiplied each second without pressure, far below where there was some or long after."""
_SLOW: Final = 1.1
_NEAR: Final = 0.7
"""So much of the level at which there was pressure is near it."""
_LONG: Final = 3.0
_FLOOD: Final = 4.0
"""So many times what all others bring together is a flood, if a quarter of the accounts brings it; less is everybody's load."""
_USUAL: Final = 2.0
"""So many times what the lower quarter of the accounts bring is no flood, whatever the pressure."""
_LEAST: Final = 1.0
_BURST: Final = 10.0
"""Messages that an account may bring at once."""
_SLOT: Final = 1.0
"""How long messages are counted together, to tell an account's rate."""
_SEEN: Final = 10.0
"""Seconds for which an account is one of those in demand."""
_QUIET: Final = 5.0
"""Seconds without pressure after which a level that limits nobody is given up; longer than most floods take a breath."""


class Lane(NamedTuple):
    """What keeps its order: an account's messages in one partition of INBOUND."""

    p: int
    account: str


class Admission:
    """The level, and what each account has used of it.

    ``threshold``: how many seconds events may wait, in all services together, before that is pressure; 0: nothing ever is.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.level = math.inf
        self._pressed = -math.inf
        self._looked = -math.inf
        self._ceiling = math.inf
        self._flood = 0.0
        self._told: dict[str, tuple[float, float]] = {}
        self._at = -math.inf
        self._slot = -math.inf
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._seen: dict[str, float] = {}
        self._tokens: dict[str, tuple[float, float]] = {}

    @property
    def limits(self) -> bool:
        """Whether there is a level."""
        return self.level < math.inf

    def told(self, service: str, waited: float, now: float) -> None:
        """A service says that its oldest event has waited so many seconds."""
        self._advance(now)
        self._told[service] = waited if waited < OUTAGE else 0.0, now
        pressure = sum(seconds for seconds, at in self._told.values() if now - at < _HOLD)
        if not self._threshold or pressure <= self._threshold or len(self._seen) < 2:
            return  # with one account there is nobody to protect
        if self.limits:
            self._pressed = now
        if now - self._looked < _STEP:
            return
        self._looked = now
        found = self._rates(now)
        rates = sorted(found.get(account, 0.0) for account in self._seen)
        top, usual = rates[-1], rates[(len(rates) - 1) // 4]
        few = max(len(rates) // 4, 1)
        if sum(rates[-few:]) <= _FLOOD * sum(rates[:-few]):
            return  # everybody's load: to hold up the largest would help the others little
        self._pressed = now
        if self.level > top:
            self._flood, factor = top, _FIRST
        else:
            factor = _HARD if pressure > 2 * self._threshold else _SOFT
        self._ceiling = min(self.level, top)
        deep = min(_DEEP * self._flood, _GENTLE * self._ceiling)
        self.level = max(self._ceiling * factor, deep, _USUAL * usual, _LEAST)

    def came(self, counts: Mapping[str, int], now: float) -> None:
        """So many messages of each account came, or were let in later."""
        self._advance(now)
        self._now.update(counts)
        self._seen.update(dict.fromkeys(counts, now))

    def sift(self, lanes: Iterable[Lane], behind: Collection[Lane], now: float) -> list[bool]:
        """Which messages, in order, come in at once. Those of a lane in ``behind`` do not: earlier ones of it wait."""
        waiting = set(behind)
        admitted: list[bool] = []
        allowed: dict[str, float] = {}
        for lane in lanes:
            left = allowed.setdefault(lane.account, self.allowance(lane.account, now))
            if lane not in waiting and left >= 1:
                allowed[lane.account] = left - 1
                admitted.append(True)
            else:
                waiting.add(lane)
                admitted.append(False)
        for account, left in allowed.items():
            self._keep(account, left, now)
        return admitted

    def allowance(self, account: str, now: float) -> float:
        """How many messages of the account may come in now; infinite without a level."""
        self._advance(now)
        if not self.limits:
            return math.inf
        most = max(self.level, _BURST)
        found = self._tokens.get(account)
        if found is None:
            return most if self._rates(now).get(account, 0.0) <= self.level else _BURST
        left, since = found
        return min(left + self.level * (now - since), most)

    def wait_for(self, account: str, many: int, now: float) -> float:
        """Seconds until the account may bring messages again that cannot wait here; 0: these come in now.

        If they are more than it may bring, its next ones come in later for that.
        """
        left = self.allowance(account, now)
        if left < 1:
            return (1 - left) / self.level
        self._keep(account, left - many, now)
        self.came({account: many}, now)
        return 0.0

    def take(self, waiting: Collection[str], at_most: int, now: float) -> dict[str, int]:
        """How many messages of each account that has some waiting come in now, ``at_most`` together, in fair parts."""
        wanted = {account: int(min(self.allowance(account, now), at_most)) for account in waiting}
        return {account: many for account, many in shares(at_most, wanted).items() if many}

    def took(self, counts: Mapping[str, int], now: float) -> None:
        """So many of each account came in, of those who waited."""
        for account, many in counts.items():
            self._keep(account, self.allowance(account, now) - many, now)
        self.came(counts, now)

    def _keep(self, account: str, left: float, now: float) -> None:
        if self.limits:
            self._tokens[account] = left, now

    def _rates(self, now: float) -> dict[str, float]:
        """Messages a second of every account that brought some in the last one or two."""
        span = _SLOT + max(now - self._slot, 0.0) if self._before else max(now - self._slot, _STEP)
        both = self._now + self._before
        return {account: many / span for account, many in both.items()}

    def _advance(self, now: float) -> None:
        if now <= self._at:
            return
        since, self._at = self._at, now
        if now - self._slot >= _SLOT:
            self._before = self._now if now - self._slot < 2 * _SLOT else Counter()
            self._now = Counter()
            self._slot = now
            self._seen = {account: at for account, at in self._seen.items() if now - at < _SEEN}
            self._tokens = {account: kept for account, kept in self._tokens.items() if account in self._seen}
        quiet = now - self._pressed
        if not self.limits or quiet < _HOLD:
            return
        rise = _FAST if self.level < _NEAR * self._ceiling or quiet > _LONG else _SLOW
        self.level *= rise ** min(now - since, quiet - _HOLD, _SEEN)
        if quiet > _QUIET and self.level > 2 * max(self._rates(now).values(), default=0.0):
            self.level = math.inf
            self._tokens.clear()


def shares(total: int, wanted: Mapping[Key, int]) -> dict[Key, int]:
    """Max-min fair parts of ``total``: who gets less than wanted gets as much as anyone, or one less."""
    found: dict[Key, int] = {}
    left = total
    for place, (key, want) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        found[key] = min(want, left // (len(wanted) - place))
        left -= found[key]
    return found
