"""What is done to a running stack: kills, stops, restarts of the servers, crashes at named points."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from chaos.checker import Ledger
from chaos.inventory import IMPOSSIBLE, Pair, services
from whole_stack import WholeStack

STOP_SECONDS = 5.0
"""Longer than a lease."""
PROMPT_SECONDS = 3.0
"""How long a point holds up the others: one that is passed often is hit sooner."""
AROUND_SECONDS = 2.0
"""The rate at a kill is taken over so long before and after it."""
BACK_SECONDS = 60.0


@dataclass(frozen=True)
class Kill:
    """One kill, and how much flowed around it."""

    at: float
    service: str
    rate: float


@dataclass
class Havoc:
    """Everything is drawn from one seeded generator, so that a run can be made again."""

    stack: WholeStack
    random: random.Random
    ledger: Ledger
    crashes: Path
    """The folder that arms the crash points: RELEVO_CRASH_FOLDER of the stack."""
    least_rate: float = 0.0
    """Messages a second that must be acknowledged around a kill, else it does not count."""
    at_once: int = 2
    """Crash points that may be under way at the same moment, rarely passed ones apart."""
    done: Counter[str] = field(default_factory=Counter)
    counted: list[Kill] = field(default_factory=list)
    hits: Counter[Pair] = field(default_factory=Counter)
    missed: list[Pair] = field(default_factory=list)
    against_the_table: list[Pair] = field(default_factory=list)
    """Pairs that were passed although the table says that they cannot."""
    journal: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._ports = {name: item["port"] for name, item in self.stack.running().items()}
        self._turn = asyncio.Semaphore(self.at_once)
        self._impossible: list[tuple[Pair, Path]] = []

    def note(self, what: str) -> None:
        self.done[what.split(maxsplit=1)[0]] += 1
        self.journal.append(f"{time.monotonic() - self.began:6.1f} s  {what}")

    # -- kills --------------------------------------------------------------------------------------------------------

    async def kills(self, number: int, seconds: float) -> None:
        """Kill so many services, evenly spread over the seconds, each while enough flows; every service in its turn.

        NATS is killed once at a third, PostgreSQL once at two thirds; some services are stopped for longer than a
        lease, and go on. None of these counts as one of the kills.
        """
        pause = max(seconds / (number + 1) - 2 * AROUND_SECONDS, 0) if number else 0
        servers = {number // 3: "nats", number * 2 // 3: "postgres"} if number else {}
        stops: list[asyncio.Task[None]] = []
        order: list[str] = []
        while len(self.counted) < number:
            await asyncio.sleep(pause)
            if (server := servers.pop(len(self.counted), None)) is not None:
                # PostgreSQL: immediate shutdown, which is a crash to it. Its postmaster alone would leave children.
                hard = signal.SIGKILL if server == "nats" else signal.SIGQUIT
                if self.stack.signal(server, hard):
                    self.note(f"restart {server}")
                continue
            if not order:
                order = services()
                self.random.shuffle(order)
                stops.append(asyncio.create_task(self._stop(self.random.choice(order))))
            await self._flowing()
            victim = order.pop()
            if not self.stack.signal(victim, signal.SIGKILL):
                order.insert(0, victim)  # it is down already: later
                await asyncio.sleep(0.2)
                continue
            at = time.monotonic()
            await asyncio.sleep(AROUND_SECONDS)
            rate = self.ledger.rate(at - AROUND_SECONDS, at + AROUND_SECONDS)
            self.note(f"kill {victim} at {rate:.0f} messages/s")
            if rate >= self.least_rate:
                self.counted.append(Kill(at - self.began, victim, rate))
        await asyncio.gather(*stops)

    async def _flowing(self) -> None:
        while True:
            now = time.monotonic()
            if self.ledger.rate(now - AROUND_SECONDS, now) >= self.least_rate:
                return
            await asyncio.sleep(0.1)

    async def _stop(self, service: str) -> None:
        pid = self.stack.pid(service)
        if pid is None or not self.stack.signal(service, signal.SIGSTOP):
            return
        self.note(f"stop {service}")
        try:
            await asyncio.sleep(STOP_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # killed while it stood still
                os.kill(pid, signal.SIGCONT)

    # -- crash points -------------------------------------------------------------------------------------------------

    async def sweep(self, wanted: Iterable[Pair]) -> None:
        """Have each service die at each point: it is armed while it runs, and the supervisor starts it again.

        One point of a service at a time. One that is not passed soon waits for its traffic while others go on.
        """
        queues: dict[str, list[str]] = defaultdict(list)
        self.missed = list(wanted)
        for service, point in self.missed:
            queues[service].append(point)
        await asyncio.gather(*(self._of_one(service, points) for service, points in queues.items()))

    async def _of_one(self, service: str, points: list[str]) -> None:
        for point in points:
            file = self._arm(service, point)
            async with self._turn:
                if await _gone(file, PROMPT_SECONDS):
                    await self._hit(service, point)
                    continue
            await _gone(file)
            await self._hit(service, point)

    def _arm(self, service: str, point: str) -> Path:
        file = self.crashes / service / point
        file.parent.mkdir(exist_ok=True)
        file.touch()
        return file

    async def _hit(self, service: str, point: str) -> None:
        self.hits[service, point] += 1
        self.missed.remove((service, point))
        self.note(f"crash {service} {point}")
        await self._back(service)

    async def _back(self, service: str) -> None:
        """Wait until the service is ready again."""
        await asyncio.sleep(0.2)  # it is dead at the latest then
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACK_SECONDS):
                    while True:
                        with contextlib.suppress(httpx.TransportError):
                            if (await client.get(f"http://127.0.0.1:{self._ports[service]}/readyz")).is_success:
                                return
                        await asyncio.sleep(0.1)

    def arm_the_impossible(self) -> None:
        """Arm what the table says cannot happen; `disarm` tells what did."""
        self._impossible = [(pair, self._arm(*pair)) for pair in IMPOSSIBLE]

    def disarm(self) -> None:
        """Take away what is armed still. What could not be and was, is in `against_the_table`."""
        self.against_the_table += [pair for pair, file in self._impossible if not file.exists()]
        for file in self.crashes.glob("*/*"):
            file.unlink(missing_ok=True)

    def table(self) -> str:
        """Service × point → hits."""
        planned = sorted({*self.hits, *self.missed}, key=lambda pair: (pair[0], pair[1]))
        lines = [f"  {service:<14}{point:<52}{self.hits[service, point] or '✗'}" for service, point in planned]
        return "\n".join(lines)

    def figures(self) -> dict[str, Any]:
        rates = [kill.rate for kill in self.counted]
        return {
            "done": dict(self.done),
            "kills that count": len(self.counted),
            "smallest rate at a kill (messages/s)": round(min(rates), 1) if rates else None,
            "kills by service": dict(sorted(Counter(kill.service for kill in self.counted).items())),
            "crash points hit": f"{len(self.hits)} of {len(self.hits) + len(self.missed)}",
            "crash points missed": [" ".join(pair) for pair in self.missed],
            "passed against the table": [" ".join(pair) for pair in self.against_the_table],
        }

    def record(self) -> dict[str, Any]:
        """For the report: every hit and every kill."""
        return {
            "hits": {" ".join(pair): number for pair, number in sorted(self.hits.items())},
            "missed": [" ".join(pair) for pair in self.missed],
            "kills": [asdict(kill) for kill in self.counted],
            "journal": self.journal,
        }


async def _gone(file: Path, seconds: float = float("inf")) -> bool:
    """Wait for a process to take the file away; tells whether one did in time."""
    end = time.monotonic() + seconds
    while file.exists():  # noqa: ASYNC240 — one system call
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True
