"""One run of the load, from the first message to the last fact; and what a run says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relevo.stack.bench.figures import Latency, Scenario, firsts, matched
from relevo.stack.bench.worker import Worker

BACKLOG_SECONDS = 1.0
"""A rate holds when the last fact of its run arrives within this time of the last message."""
_HOPELESS_SECONDS = 3.0
_STALLED_SECONDS = 30.0
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


class Driver:
    """Runs loads, one at a time."""

    def __init__(self, loader: Worker, watcher: Worker, say: Callable[[str], None]) -> None:
        self._loader = loader
        self._watcher = watcher
        self._say = say

    async def run(self, scenario: Scenario, rate: float, seconds: float, *, to_the_end: bool = False) -> Run:
        """Send at ``rate`` for so long, then wait for the last fact.

        Stops early when the stack is seconds behind, unless ``to_the_end``.
        """
        total = max(round(rate * seconds), 1)
        await self._watcher.ask(do="begin")
        load = self._loader.start(do="load", scenario=scenario, rate=rate, total=total)
        stopped = False
        while not load.done():
            await asyncio.wait({load}, timeout=_LOOK_SECONDS)
            sent = self._loader.latest.get("sent", 0)
            behind = sent - self._watcher.latest.get("messages_in", 0)
            self._say(f"{scenario} at {rate:,.0f}/s: {sent:,} of {total:,} sent, {max(behind, 0):,} on their way")
            if not stopped and not to_the_end and behind > rate * _HOPELESS_SECONDS + 10:
                stopped = True
                self._loader.say(do="stop")
        outcome = load.result()
        expected = {
            "messages_in": outcome["sent"],
            "wait_in_queue": firsts(scenario, outcome["sent"]),
            "rules_executed": matched(outcome["sent"]),
        }
        await self._drained(scenario, expected)
        return _run(scenario, rate, outcome, await self._watcher.ask(do="summary"), expected, stopped=stopped)

    async def _drained(self, scenario: Scenario, expected: dict[str, int]) -> None:
        loop = asyncio.get_running_loop()
        before: dict[str, int] = {}
        moved = loop.time()
        while True:
            seen = {name: self._watcher.latest.get(name, 0) for name in expected}
            missing = sum(max(number - seen[name], 0) for name, number in expected.items())
            if not missing:
                return
            if seen != before:
                before, moved = seen, loop.time()
            elif loop.time() - moved > _STALLED_SECONDS:
                return
            self._say(f"{scenario}: waiting for {missing:,} facts")
            await asyncio.sleep(_LOOK_SECONDS)


def _run(
    scenario: Scenario,
    rate: float,
    outcome: dict[str, Any],
    summary: dict[str, Any],
    expected: dict[str, int],
    *,
    stopped: bool,
) -> Run:
    measured, assigned = (Latency(**summary[name]) if summary[name] else None for name in ("measured", "assigned"))
    return Run(
        scenario=scenario,
        rate=rate,
        sent=outcome["sent"],
        took=outcome["ended"] - outcome["began"],
        drained=max(summary["last"] - outcome["ended"], 0.0),
        stopped=stopped,
        lost=sum(max(number - summary["counts"][name], 0) for name, number in expected.items()),
        twice=summary["twice"],
        unacknowledged=outcome["unacknowledged"] + outcome["refused"],
        slip=outcome["slip"],
        loader_cpu=outcome["cpu"],
        measured=measured,
        assigned=assigned,
    )
