"""A ready stack under measurement: who takes part, the load generator, the metrics consumer, and the search for a rate."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from relevo.stack.bench import machine, scene
from relevo.stack.bench.drive import Driver, Run
from relevo.stack.bench.figures import Scenario, Search
from relevo.stack.bench.machine import Batched, Usage, Writes
from relevo.stack.bench.place import Place
from relevo.stack.bench.results import Batches, Cost, Plan, Rest, Sustained
from relevo.stack.bench.worker import Worker
from relevo.stack.errors import Exit, StackError

_FLOOD = 6000.0
"""A rate that no machine of this class carries: the time to the last fact tells what it does."""
COUNTERS_LATE = 2.0
_CAREFUL = 0.9
_LOWER = (0.9, 0.9, 0.8, 0.7, 0.6)
"""By how much the rate is lowered after each confirmation that fails."""
_LONGER = 0.95
"""A probe is short: a rate a little too high gathers its second of backlog only over the full time."""


class Session:
    """What every part of a measurement needs. Made by `open_session`."""

    def __init__(
        self,
        place: Place,
        plan: Plan,
        driver: Driver,
        *,
        scenes: list[scene.Scene],
        workers: dict[str, int],
        say: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        self.place = place
        self.plan = plan
        self.driver = driver
        self.scenes = scenes
        self.say = say
        self.note = note
        self._workers = workers

    async def fill(self) -> dict[Scenario, float]:
        """Make the contacts, warm everything up; answers what was carried of each scenario when flooded.

        Raises StackError when something is lost already here.
        """
        plan = self.plan
        flooded = {
            "S1": await self.driver.run("S1", _FLOOD, plan.contacts / _FLOOD, to_the_end=True),
            "mix": await self.driver.run("mix", _FLOOD, plan.contacts / 2 / _FLOOD, to_the_end=True),
        }
        for run in flooded.values():
            if run.lost or run.unacknowledged:
                raise StackError(
                    f"of {run.sent} messages and what follows from them {run.lost} things never came to be counted,"
                    f" {run.unacknowledged} messages were not acknowledged",
                    f"Look at the logs in {self.place.home.logs}",
                    Exit.FAILED,
                )
        carried: dict[Scenario, float] = {"S1": flooded["S1"].carried, "mix": flooded["mix"].carried}
        self.note(f"flooded: {carried['S1']:.0f} new conversations/s, {carried['mix']:.0f} messages/s of the mix")
        await self.driver.run("mix", carried["mix"] / 2, plan.warm_up_seconds, to_the_end=True)
        return carried

    async def rest(self) -> Rest:
        """Nothing to do, then a message a second."""
        plan, pids = self.plan, self.place.pids
        self.say("at rest")
        await asyncio.sleep(COUNTERS_LATE)
        before, began = machine.usage_of(pids), time.monotonic()
        await asyncio.sleep(plan.rest_seconds)
        after, took = machine.usage_of(pids), time.monotonic() - began
        cores = {name: (after[name].cpu - before[name].cpu) / took for name in pids}
        singles = await self.driver.run("mix", 1.0, plan.singles, to_the_end=True)
        return Rest(cores, {name: usage.rss for name, usage in after.items()}, singles)

    async def search(self, scenario: Scenario, start: float) -> tuple[float | None, list[Run]]:
        """The highest rate that holds for the time of a probe, and every probe."""
        plan = self.plan
        search = Search(start, precision=plan.precision, probes=plan.probes)
        probes: list[Run] = []
        while search.next is not None:
            probe = await self.driver.run(scenario, search.next, plan.probe_seconds)
            self.note(f"{scenario} probe {describe(probe)}")
            probes.append(probe)
            search.tell(held=probe.held)
        return search.held, probes

    async def sustained(
        self, scenario: Scenario, carried: float, *, seconds: float | None = None
    ) -> tuple[Sustained, Writes]:
        """Search the rate, confirm it for the full time, lowering it until it holds, then take the latency at half of it.

        Raises StackError when none holds.
        """
        seconds = seconds or self.plan.seconds
        rate, probes = await self.search(scenario, carried * _CAREFUL)
        rate = rate and rate * _LONGER
        for lower in (*_LOWER, 0.0):
            if rate is None:
                break
            found, written = await self.confirm(scenario, rate, seconds)
            self.note(f"{scenario} {seconds:.0f} s {describe(found.run)}")
            if found.run.held:
                half = await self.driver.run(scenario, rate / 2, self.plan.half_load_seconds)
                return replace(found, half=half, probes=probes), written
            probes.append(found.run)
            rate *= lower
        raise StackError(
            f"no rate of {scenario} held", "The machine is too busy with something else, or too slow", Exit.FAILED
        )

    async def confirm(self, scenario: Scenario, rate: float, seconds: float) -> tuple[Sustained, Writes]:
        """The full time at this rate, with what it took. The run at half of it is still to come."""
        place = self.place
        databases = place.dsn_of()
        written = machine.writes(place.monitoring_url, databases)
        pids = {**place.pids, **self._workers}
        batched = machine.batched(place.ports)
        before, began = machine.usage_of(pids), time.monotonic()
        busy, own = machine.busy_seconds(), time.process_time()
        run = await self.driver.run(scenario, rate, seconds)
        took, own = time.monotonic() - began, time.process_time() - own
        after, busy = machine.usage_of(pids), machine.busy_seconds() - busy
        memory = machine.shares_of(pids)
        batches = batches_of(batched, machine.batched(place.ports))
        await asyncio.sleep(COUNTERS_LATE)
        all_costs = costs(before, after, memory, run, took)
        bench_cores = own / took + sum(cost.cores for cost in all_costs if cost.name in self._workers)
        stack = [cost for cost in all_costs if cost.name not in self._workers]
        others = busy / took - bench_cores - sum(cost.cores for cost in stack)
        found = Sustained(scenario, rate, run, run, stack, batches, bench_cores, max(others, 0.0), [])
        return found, machine.writes(place.monitoring_url, databases).since(written)


@asynccontextmanager
async def open_session(
    place: Place,
    plan: Plan,
    *,
    accounts: int = 1,
    leave: bool = False,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> AsyncIterator[Session]:
    """Everybody signed in, load generator and metrics consumer connected.

    ``accounts``: so many, each with its share of the plan's agents. ``leave``: the stack lives on, so that what was
    made in it is put to rest afterwards. ``say`` is told what goes on now and may be shown for a moment, ``note`` what
    stays to be read.
    """
    scenes: list[scene.Scene] = []
    agents = max(plan.agents // accounts, 1)
    try:
        for number in range(accounts):
            say(f"{agents} agents sign in" if accounts == 1 else f"account {number + 1} of {accounts}")
            known = accounts == 1
            scenes.append(await scene.make(place, place.home.path, agents=agents, alone=not leave, known=known))
        async with (
            Worker("relevo.stack.bench.watch", _where(place, scenes, [one.metrics for one in scenes])) as watcher,
            Worker("relevo.stack.bench.load", _where(place, scenes, [one.adapter for one in scenes])) as loader,
        ):
            workers = {"loader": loader.pid, "watcher": watcher.pid}
            driver = Driver(loader, watcher, say, len(scenes))
            yield Session(place, plan, driver, scenes=scenes, workers=workers, say=say, note=note)
    finally:
        if leave:
            for one in scenes:
                await one.leave()


def _where(place: Place, scenes: list[scene.Scene], access: list[dict[str, str]]) -> dict[str, object]:
    return {
        "nats_url": place.nats_url,
        "tenants": [
            {"account_id": one.account_id, "inbox_id": one.inbox_id, **own}
            for one, own in zip(scenes, access, strict=True)
        ],
    }


def costs(
    before: Mapping[str, Usage], after: Mapping[str, Usage], shares: Mapping[str, int], run: Run, took: float
) -> list[Cost]:
    """What each process took for a run, the most expensive first."""
    found = [
        Cost(
            name, (used.cpu - before[name].cpu) / run.sent, (used.cpu - before[name].cpu) / took, used.rss, shares[name]
        )
        for name, used in after.items()
    ]
    return sorted(found, key=lambda cost: -cost.cpu_per_message)


def batches_of(before: Mapping[str, Batched], after: Mapping[str, Batched]) -> list[Batches]:
    """The mean batch of each service between two looks, the most events first."""
    found = []
    for service, now in after.items():
        then = before.get(service, Batched())
        count = now.batches - then.batches
        if count > 0:
            found.append(
                (
                    now.events - then.events,
                    Batches(service, count, (now.events - then.events) / count, (now.seconds - then.seconds) / count),
                )
            )
    return [one for _, one in sorted(found, key=lambda item: -item[0])]


def describe(run: Run) -> str:
    """A run in one line."""
    measured = f"p99 {run.measured.p99 * 1000:,.0f} ms" if run.measured else "nothing was measured"
    outcome = "holds" if run.held else "does not hold"
    cut = ", cut short" if run.stopped else ""
    lost = f", {run.lost} LOST" if run.lost else ""
    behind = f", the loader {run.slip:.1f} s behind" if run.slip > 0.5 else ""
    return f"at {run.rate:,.0f}/s {outcome}: backlog {run.drained:.2f} s, {measured}{cut}{lost}{behind}"
