"""One run of the load, from the first message to the last fact; and what a run says."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relevo.stack.bench.figures import Latency, Scenario
from relevo.stack.bench.worker import Worker

BACKLOG_SECONDS = 1.0
"""A rate holds when the last fact of its run arrives within this time of the last message."""
_HOPELESS_SECONDS = 2.5
STALLED_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """What one run was and what came of it. Times in seconds; latencies are from the moment a message was due."""

    scenario: Scenario
    rate: float
    sent: int
    took: float
    drained: float
    """From the last message to the last fact: measured, assigned and automated."""
    stopped: bool
    """It was cut short: seconds of backlog had gathered."""
    lost: int
    """Messages, assignments and rules without a fact half a minute after everything stood still."""
    twice: int
    """Facts that came more than once; they count once."""
    unacknowledged: int
    slip: float
    """How far the load generator was behind its schedule at worst."""
    loader_cpu: float
    measured: Latency | None
    assigned: Latency | None

    @property
    def held(self) -> bool:
        """Whether the stack kept up with this rate."""
        return (
            not self.stopped
            and not self.lost
            and not self.unacknowledged
            and max(self.drained, self.slip) < BACKLOG_SECONDS
        )

    @property
    def carried(self) -> float:
        """Messages a second, over the whole time that they took to be measured."""
        return self.sent / (self.took + self.drained) if self.sent else 0.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A part of a load that is counted by itself: a scenario at a rate over some of the tenants."""

    scenario: Scenario
    rate: float
    tenants: tuple[int, ...] = (0,)


class Driver:
    """Runs loads, one at a time."""

    def __init__(self, loader: Worker, watcher: Worker, say: Callable[[str], None], tenants: int = 1) -> None:
        self._everyone = tuple(range(tenants))
        self._loader = loader
        self._watcher = watcher
        self._say = say

    async def run(
        self,
        scenario: Scenario,
        rate: float,
        seconds: float,
        *,
        to_the_end: bool = False,
        keep: bool = False,
        patience: float = STALLED_SECONDS,
    ) -> Run:
        """Send at ``rate`` for so long, over all tenants, then wait for the last fact.

        Stops early when the stack is seconds behind, unless ``to_the_end``. ``keep``: for `repeat`. ``patience``:
        how many seconds without a new fact mean that no more come.
        """
        lane = Lane(scenario, rate, self._everyone)
        (run,) = await self.lanes([lane], seconds, to_the_end=to_the_end, keep=keep, patience=patience)
        return run

    async def lanes(
        self,
        lanes: Sequence[Lane],
        seconds: float,
        *,
        to_the_end: bool = False,
        keep: bool = False,
        patience: float = STALLED_SECONDS,
    ) -> list[Run]:
        """The same with several lanes side by side."""
        told: list[dict[str, Any]] = [
            {
                "tenants": lane.tenants,
                "scenario": lane.scenario,
                "rate": lane.rate,
                "total": max(round(lane.rate * seconds), 1),
            }
            for lane in lanes
        ]
        await self._watcher.ask(do="begin", groups=[lane.tenants for lane in lanes])
        load = self._loader.start(do="load", lanes=told, keep=keep)
        rate, total = sum(lane.rate for lane in lanes), sum(lane["total"] for lane in told)
        stopped = False
        while not load.done():
            await asyncio.wait({load}, timeout=_LOOK_SECONDS)
            sent, behind = self.progress()
            self._say(
                f"{lanes[0].scenario} at {rate:,.0f}/s: {sent:,} of {total:,} sent, {max(behind, 0):,} on their way"
            )
            if not stopped and not to_the_end and behind > rate * _HOPELESS_SECONDS + 10:
                stopped = True
                self._loader.say(do="stop")
        outcome = load.result()
        expected = [
            {"messages_in": lane["sent"], "wait_in_queue": lane["firsts"], "rules_executed": lane["matched"]}
            for lane in outcome["lanes"]
        ]
        await self._drained(expected, patience)
        summary = await self._watcher.ask(do="summary")
        return [
            _run(lane, sent, summary["groups"][number], expected[number], cpu=outcome["cpu"], stopped=stopped)
            for number, (lane, sent) in enumerate(zip(lanes, outcome["lanes"], strict=True))
        ]

    async def repeat(self, rate: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """Send again what was kept; answers what the loader and what the watcher say of it."""
        await self._watcher.ask(do="begin", groups=[[0]])
        outcome = await self._loader.start(do="repeat", rate=rate)
        return outcome["lanes"][0], (await self._watcher.ask(do="summary"))["groups"][0]

    async def summary(self) -> dict[str, Any]:
        """What the watcher says of the first lane now."""
        found: dict[str, Any] = (await self._watcher.ask(do="summary"))["groups"][0]
        return found

    def progress(self) -> tuple[int, int]:
        """How many messages were sent in this run, and how many of them have no fact yet; a fifth of a second old."""
        sent = sum(self._loader.latest.get("sent", ()))
        return sent, sent - sum(counts["messages_in"] for counts in self._watcher.latest.get("counts", ()))

    async def _drained(self, expected: list[dict[str, int]], patience: float) -> None:
        loop = asyncio.get_running_loop()
        before: list[dict[str, int]] = []
        moved = loop.time()
        while True:
            seen: list[dict[str, int]] = self._watcher.latest.get("counts") or [{} for _ in expected]
            missing = sum(
                max(number - seen[lane].get(name, 0), 0)
                for lane, wanted in enumerate(expected)
                for name, number in wanted.items()
            )
            if not missing:
                return
            if seen != before:
                before, moved = seen, loop.time()
            elif loop.time() - moved > patience:
                return
            self._say(f"waiting for {missing:,} facts")
            await asyncio.sleep(_LOOK_SECONDS)


def _run(
    lane: Lane, sent: dict[str, Any], summary: dict[str, Any], expected: dict[str, int], *, cpu: float, stopped: bool
) -> Run:
    measured, assigned = (Latency(**summary[name]) if summary[name] else None for name in ("measured", "assigned"))
    return Run(
        scenario=lane.scenario,
        rate=lane.rate,
        sent=sent["sent"],
        took=sent["ended"] - sent["began"],
        drained=max(summary["last"] - sent["ended"], 0.0),
        stopped=stopped,
        lost=sum(max(number - summary["counts"][name], 0) for name, number in expected.items()),
        twice=summary["twice"],
        unacknowledged=sent["unacknowledged"],
        slip=sent["slip"],
        loader_cpu=cpu,
        measured=measured,
        assigned=assigned,
    )
