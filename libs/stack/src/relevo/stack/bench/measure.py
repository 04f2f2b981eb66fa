"""The whole measurement, in its order: at rest, single messages, what is sustained, latency at half of that, the floor."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from relevo.stack.bench import floor, machine, scene
from relevo.stack.bench.drive import Driver, Run
from relevo.stack.bench.figures import Scenario, Search
from relevo.stack.bench.machine import Usage, Writes
from relevo.stack.bench.place import Place
from relevo.stack.bench.worker import Worker
from relevo.stack.errors import Exit, StackError
from relevo.stack.keys import write_secret

_FLOOD = 2000.0
"""A rate that no machine of this class carries: the time to the last fact tells what it does."""
_COUNTERS_LATE = 2.0
_CAREFUL = 0.85
_CONFIRMATIONS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part takes, in seconds, and how much there is of each."""

    seconds: float = 60.0
    probe_seconds: float = 8.0
    warm_up_seconds: float = 10.0
    half_load_seconds: float = 20.0
    rest_seconds: float = 20.0
    singles: int = 20
    floor_seconds: float = 10.0
    agents: int = 50
    contacts: int = 5000
    probes: int = 8
    precision: float = 0.1


QUICK = Plan(
    seconds=2.0,
    probe_seconds=1.0,
    warm_up_seconds=0.5,
    half_load_seconds=1.0,
    rest_seconds=1.0,
    singles=2,
    floor_seconds=1.0,
    agents=4,
    contacts=100,
    probes=6,
    precision=1.0,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took during a run."""

    name: str
    cpu_per_message: float
    """Seconds."""
    cores: float
    rss: int


@dataclass(frozen=True, slots=True)
class Sustained:
    """One scenario: the run that confirmed its rate, with its costs, and the run at half of it."""

    scenario: Scenario
    rate: float
    """Messages a second."""
    run: Run
    half: Run
    costs: list[Cost]
    bench_cores: float
    """What measuring itself took: load generator, metrics consumer, this process."""
    other_cores: float
    """What everything else on the machine took meanwhile. The figures are only as good as this is small."""
    probes: list[Run]


@dataclass(frozen=True, slots=True)
class FloorResult:
    """What one process without logic reaches, and what it was told to write for a message."""

    rate: float
    cpu_per_message: float
    rows: float
    events: float
    event_bytes: int


@dataclass(frozen=True, slots=True)
class Rest:
    """The stack with nothing to do, then with a message a second."""

    cores: dict[str, float]
    rss: dict[str, int]
    singles: Run

    @property
    def total_cores(self) -> float:
        return sum(self.cores.values())


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    began: datetime
    version: str
    machine: dict[str, Any]
    durable: dict[str, str]
    replicas: dict[str, int]
    plan: Plan
    rest: Rest
    mix: Sustained
    s1: Sustained
    writes_per_message: dict[str, float]
    """By the whole stack, in ``mix``."""
    floor: FloorResult
    restarts: int
    problems: list[str] = field(default_factory=list)

    @property
    def floor_ratio(self) -> float:
        """The share of the floor that the stack reaches in ``mix``."""
        return self.mix.rate / self.floor.rate

    def document(self) -> dict[str, Any]:
        """For machines. Times in seconds, sizes in bytes."""
        return {**asdict(self), "began": self.began.isoformat(), "floor_ratio": self.floor_ratio}

    def line(self) -> str:
        """The last line."""
        return (
            f"sustained: {self.mix.rate:.0f} messages/s (mix), {self.s1.rate:.0f} conversations/s (S1),"
            f" floor ratio {self.floor_ratio:.2f}"
        )


class Measurement:
    """Takes the measurement of one ready stack."""

    def __init__(self, place: Place, plan: Plan, *, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        """``say`` is told what goes on now and may be shown for a moment, ``note`` what stays to be read."""
        self._place = place
        self._plan = plan
        self._say = say
        self._note = note
        self._bench: dict[str, int] = {}

    async def take(self, *, leave: bool) -> Result:
        """Measure. ``leave``: the stack lives on, so that what was made in it is put to rest afterwards.

        Raises StackError when the stack is not durable, loses something, or no rate holds.
        """
        place, plan = self._place, self._plan
        began = datetime.now(UTC)
        durable = self._durable()
        described = machine.describe(place.home.path)
        restarts = place.restarts()
        self._say(f"{plan.agents} agents sign in")
        made = await scene.make(place, place.home.path, agents=plan.agents, alone=not leave)
        try:
            async with self._workers(made) as (loader, watcher):
                driver = Driver(loader, watcher, self._say)
                self._bench = {"loader": loader.pid, "watcher": watcher.pid}
                carried = await self._fill(driver)
                rest = await self._rest(driver)
                mix, written = await self._sustained(driver, "mix", carried["mix"])
                s1, _ = await self._sustained(driver, "S1", carried["S1"])
            lowest = await self._floor(written, mix.run.sent)
        finally:
            if leave:
                await made.leave()
        self._durable()
        result = Result(
            began=began,
            version=version("relevo-stack"),
            machine={**described, "load_average_after": os.getloadavg()[0]},
            durable=durable,
            replicas={name: sum(x["service"] == name for x in place.status["services"]) for name in place.services},
            plan=plan,
            rest=rest,
            mix=mix,
            s1=s1,
            writes_per_message={name: value / mix.run.sent for name, value in asdict(written).items()},
            floor=lowest,
            restarts=place.restarts() - restarts,
        )
        result.problems = _problems(result)
        return result

    def _durable(self) -> dict[str, str]:
        place = self._place
        file_system = machine.check_disk(place.home.place.root)
        found = machine.check_durable(place.monitoring_url, place.superuser_dsn(), place.service_dsns())
        return {**found, "file system": file_system}

    @asynccontextmanager
    async def _workers(self, made: scene.Scene) -> AsyncIterator[tuple[Worker, Worker]]:
        where = {"nats_url": self._place.nats_url, "account_id": made.account_id, "inbox_id": made.inbox_id}
        async with (
            Worker("relevo.stack.bench.watch", {**where, **made.metrics}) as watcher,
            Worker("relevo.stack.bench.load", {**where, **made.adapter}) as loader,
        ):
            yield loader, watcher

    async def _fill(self, driver: Driver) -> dict[Scenario, float]:
        """Make the contacts, warm everything up; answers what was carried of each scenario when flooded."""
        plan = self._plan
        flooded = {
            "S1": await driver.run("S1", _FLOOD, plan.contacts / _FLOOD, to_the_end=True),
            "mix": await driver.run("mix", _FLOOD, plan.contacts / 2 / _FLOOD, to_the_end=True),
        }
        for run in flooded.values():
            if run.lost or run.unacknowledged:
                raise StackError(
                    f"of {run.sent} messages and what follows from them {run.lost} things never came to be counted,"
                    f" {run.unacknowledged} messages were not acknowledged",
                    f"Look at the logs in {self._place.home.logs}",
                    Exit.FAILED,
                )
        carried: dict[Scenario, float] = {"S1": flooded["S1"].carried, "mix": flooded["mix"].carried}
        self._note(f"flooded: {carried['S1']:.0f} new conversations/s, {carried['mix']:.0f} messages/s of the mix")
        await driver.run("mix", carried["mix"] / 2, plan.warm_up_seconds)
        return carried

    async def _rest(self, driver: Driver) -> Rest:
        plan, pids = self._plan, self._place.pids
        self._say("at rest")
        await asyncio.sleep(_COUNTERS_LATE)
        before, began = machine.usage_of(pids), time.monotonic()
        await asyncio.sleep(plan.rest_seconds)
        after, took = machine.usage_of(pids), time.monotonic() - began
        cores = {name: (after[name].cpu - before[name].cpu) / took for name in pids}
        singles = await driver.run("mix", 1.0, plan.singles, to_the_end=True)
        return Rest(cores, {name: usage.rss for name, usage in after.items()}, singles)

    async def _sustained(self, driver: Driver, scenario: Scenario, carried: float) -> tuple[Sustained, Writes]:
        """Search the rate, confirm it for the full time, then measure latency at half of it."""
        plan = self._plan
        search = Search(carried * _CAREFUL, precision=plan.precision, probes=plan.probes)
        probes: list[Run] = []
        while search.next is not None:
            probe = await driver.run(scenario, search.next, plan.probe_seconds)
            self._note(f"{scenario} probe {describe(probe)}")
            probes.append(probe)
            search.tell(held=probe.held)
        rate = search.held
        for _ in range(_CONFIRMATIONS):
            if rate is None:
                break
            found, written = await self._confirm(driver, scenario, rate)
            self._note(f"{scenario} {plan.seconds:.0f} s {describe(found.run)}")
            if found.run.held:
                half = await driver.run(scenario, rate / 2, plan.half_load_seconds)
                return replace(found, half=half, probes=probes), written
            probes.append(found.run)
            rate *= _CAREFUL
        raise StackError(
            f"no rate of {scenario} held", "The machine is too busy with something else, or too slow", Exit.FAILED
        )

    async def _confirm(self, driver: Driver, scenario: Scenario, rate: float) -> tuple[Sustained, Writes]:
        """The full time at this rate, with what it took. The run at half of it is still to come."""
        place = self._place
        databases = place.dsn_of()
        written = machine.writes(place.monitoring_url, databases)
        pids = {**place.pids, **self._bench}
        before, began = machine.usage_of(pids), time.monotonic()
        busy, own = machine.busy_seconds(), time.process_time()
        run = await driver.run(scenario, rate, self._plan.seconds)
        took, own = time.monotonic() - began, time.process_time() - own
        after, busy = machine.usage_of(pids), machine.busy_seconds() - busy
        await asyncio.sleep(_COUNTERS_LATE)
        all_costs = costs(before, after, run, took)
        bench_cores = own / took + sum(cost.cores for cost in all_costs if cost.name in self._bench)
        stack = [cost for cost in all_costs if cost.name not in self._bench]
        others = busy / took - bench_cores - sum(cost.cores for cost in stack)
        found = Sustained(scenario, rate, run, run, stack, bench_cores, max(others, 0.0), [])
        return found, machine.writes(place.monitoring_url, databases).since(written)

    async def _floor(self, written: Writes, messages: int) -> FloorResult:
        self._say("the floor")
        place = self._place
        share = floor.Share(
            rows=written.rows / messages,
            events=written.events / messages,
            event_bytes=round(written.event_bytes / max(written.events, 1)),
        )
        credentials = self._floor_credentials(place.home.path)
        floor.make_database(place.superuser_dsn())
        try:
            where = {
                "nats_url": place.nats_url,
                "credentials": str(credentials),
                "dsn": place.superuser_dsn(floor.DATABASE),
            }
            async with Worker("relevo.stack.bench.floor", where) as worker:
                found = await worker.ask(do="run", share=asdict(share), seconds=self._plan.floor_seconds)
        finally:
            floor.drop_database(place.superuser_dsn())
            credentials.unlink()
        return FloorResult(found["rate"], found["cpu"] / found["messages"], share.rows, share.events, share.event_bytes)

    def _floor_credentials(self, folder: Path) -> Path:
        keys = self._place.home.bus_keys()
        text = keys.service_credentials(
            floor.USER,
            [
                floor.SUBJECT,
                f"$JS.API.STREAM.CREATE.{floor.STREAM}",
                f"$JS.API.STREAM.DELETE.{floor.STREAM}",
            ],
            [f"_INBOX_{floor.USER}.>"],
        )
        return write_secret(folder / "bench-floor.creds", text)


def costs(before: Mapping[str, Usage], after: Mapping[str, Usage], run: Run, took: float) -> list[Cost]:
    """What each process took for a run, the most expensive first."""
    found = [
        Cost(name, (used.cpu - before[name].cpu) / run.sent, (used.cpu - before[name].cpu) / took, used.rss)
        for name, used in after.items()
    ]
    return sorted(found, key=lambda cost: -cost.cpu_per_message)


def describe(run: Run) -> str:
    """A run in one line."""
    measured = f"p99 {run.measured.p99 * 1000:,.0f} ms" if run.measured else "nothing was measured"
    outcome = "holds" if run.held else "does not hold"
    cut = ", cut short" if run.stopped else ""
    lost = f", {run.lost} LOST" if run.lost else ""
    return f"at {run.rate:,.0f}/s {outcome}: backlog {run.drained:.2f} s, {measured}{cut}{lost}"


def _problems(result: Result) -> list[str]:
    """What makes the figures doubtful, or the stack wrong."""
    runs = [
        result.rest.singles,
        *(run for part in (result.mix, result.s1) for run in (part.run, part.half, *part.probes)),
    ]
    found = []
    if lost := sum(run.lost for run in runs):
        found.append(f"{lost} things were acknowledged and never counted")
    if twice := sum(run.twice for run in runs):
        found.append(f"{twice} facts were published twice")
    if result.restarts:
        found.append(f"{result.restarts} processes fell and were started again")
    return found
