"""How the figures change: with replicas of the hot services, with accounts of which one floods, with what is stored."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relevo.stack import databases
from relevo.stack.bench import machine, place, stored
from relevo.stack.bench.drive import Lane, Run
from relevo.stack.bench.figures import Scenario
from relevo.stack.bench.results import Plan
from relevo.stack.bench.session import Session, describe, open_session
from relevo.stack.errors import Exit, StackError

HOT = ("ingest", "conversation", "assignment", "automation", "reporting")
_CALM = 0.3
"""The others' part of the sustained rate while one floods, and while none does."""
_QUEUES = 6
_FLOOD = 2.0
"""The flooder's, as a multiple of the sustained rate."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of a sweep: what is sustained there."""

    setting: int
    rates: dict[str, float]
    """By scenario, messages a second, over the plan's time of a scenario."""
    half_p99: dict[str, float]


@dataclass(frozen=True, slots=True)
class Fairness:
    """So many accounts, one of which floods; without others to look at (one account), only the rate."""

    accounts: int
    rate: float
    calm: Run | None
    """The others alone."""
    flooded: Run | None
    """The others, beside the flooder."""
    flooder: Run | None
    waiting: dict[str, int]
    """Where events waited under the flood: the longest queue in front of each reader, the longest first."""

    @property
    def ratio(self) -> float | None:
        """The others' p99 under the flood over the one without."""
        if not (self.calm and self.flooded and self.calm.measured and self.flooded.measured):
            return None
        return self.flooded.measured.p99 / self.calm.measured.p99


Report = Callable[[str], None]


async def replicas(counts: Sequence[int], plan: Plan, *, say: Report, note: Report) -> AsyncIterator[dict[str, Any]]:
    """So many replicas of each hot service, each in a stack of its own."""
    for count in counts:
        note(f"{count} of each hot service")
        with place.own([f"{service}={count}" for service in HOT]) as own:
            async with open_session(own, plan, say=say, note=note) as session:
                yield asdict(await _point(session, count))


async def accounts(counts: Sequence[int], plan: Plan, *, say: Report, note: Report) -> AsyncIterator[dict[str, Any]]:
    """So many accounts, each in a stack of its own."""
    for count in counts:
        with place.own() as own:
            async with open_session(own, plan, accounts=count, say=say, note=note) as session:
                one = await _fairness(session, count)
        yield {**asdict(one), "ratio": one.ratio}


async def conversations(
    counts: Sequence[int], plan: Plan, *, say: Report, note: Report
) -> AsyncIterator[dict[str, Any]]:
    """So many conversations stored beforehand, in one stack that fills up."""
    there = 0
    with place.own() as own:
        async with open_session(own, plan, say=say, note=note) as session:
            for count in sorted(counts):
                say(f"{count - there:,} conversations are written")
                if count > there:
                    stored.seed(own.superuser_dsn(databases.name_of("conversation")), count - there)
                there = count
                note(f"{count:,} conversations stored")
                yield asdict(await _point(session, count))


async def _point(session: Session, setting: int) -> Point:
    carried = await session.fill()
    rates: dict[str, float] = {}
    half: dict[str, float] = {}
    scenarios: tuple[Scenario, ...] = ("mix", "S1")
    for scenario in scenarios:
        part, _ = await session.sustained(scenario, carried[scenario], seconds=session.plan.scenario_seconds)
        rates[scenario] = part.rate
        half[scenario] = part.half.measured.p99 if part.half.measured else 0.0
    return Point(setting, rates, half)


async def _fairness(session: Session, count: int) -> Fairness:
    seconds, driver = session.plan.scenario_seconds, session.driver
    carried = await session.fill()
    rate, _ = await session.search("mix", carried["mix"] * 0.9)
    if rate is None:
        raise StackError(f"no rate of the mix held with {count} accounts", code=Exit.FAILED)
    if count == 1:
        return Fairness(count, rate, None, None, None, {})
    others = Lane("mix", rate * _CALM, tuple(range(1, count)))
    (calm,) = await driver.lanes([others], seconds, to_the_end=True)
    session.note(f"{count} accounts, without a flood {describe(calm)}")
    waiting: Counter[str] = Counter()
    looking = asyncio.create_task(_queues(session, waiting))
    flooded, flooder = await driver.lanes([others, Lane("mix", rate * _FLOOD)], seconds, to_the_end=True)
    looking.cancel()
    session.note(f"{count} accounts, one floods: the others {describe(flooded)}")
    return Fairness(count, rate, calm, flooded, flooder, dict(waiting.most_common(_QUEUES)))


async def _queues(session: Session, longest: Counter[str]) -> None:
    while True:
        longest |= await asyncio.to_thread(machine.lags, session.place.ports)
        await asyncio.sleep(1)
