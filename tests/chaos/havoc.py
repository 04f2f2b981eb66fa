"""What is done to a running stack: kills, stops, restarts of the servers, crashes at named points."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
from whole_stack import WholeStack

from relevo.stack.process import free_port

CRASH_EXIT = 137
STOP_SECONDS = 5.0
START_SECONDS = 20.0
POINT_SECONDS = 6.0

SERVICES = ("ingest", "conversation", "presence", "assignment", "automation", "reporting", "identity")
EVERYWHERE = (
    "reader.before_transaction",
    "reader.after_position",
    "reader.after_handler",
    "reader.after_commit",
    "relay.before_publish",
    "relay.mid_batch",
    "relay.after_publish",
    "relay.after_mark",
    "transaction.before_commit",
    "transaction.after_commit",
)
"""Crash points of every service that reads and publishes; each is tried in each of BUSY in the deep tier."""
BUSY = ("ingest", "conversation", "assignment", "automation", "reporting")
OWN = (
    ("ingest", "ingest.after_ledger"),
    ("ingest", "ingest.after_senders"),
    ("ingest", "ingest.after_accept"),
    ("conversation", "conversation.after_contacts"),
    ("conversation", "conversation.between_conversations_and_messages"),
    ("conversation", "conversation.before_events"),
    ("conversation", "conversation.after_remembering_commands"),
    ("assignment", "matcher.after_decisions"),
    ("assignment", "matcher.after_claims"),
    ("assignment", "matcher.before_commit"),
    ("assignment", "matcher.after_commit"),
)
"""Crash points of one service's own that this load passes."""


def points(luck: random.Random, *, deep: bool) -> list[tuple[str, str]]:
    """Service and point, in any order; in the short run each common point in one service, as luck has it."""
    if deep:
        found = [*itertools.product(BUSY, EVERYWHERE), *OWN]
    else:
        found = [*((luck.choice(BUSY), point) for point in EVERYWHERE), *OWN]
    luck.shuffle(found)
    return found


@dataclass
class Havoc:
    """Everything is drawn from one seeded generator, so that a run can be made again."""

    stack: WholeStack
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    reached: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for service in BUSY:  # while they all run
            self.stack.told(service)

    def note(self, what: str) -> None:
        self.done[what.split(maxsplit=1)[0]] += 1
        self.journal.append(f"{time.monotonic() - self.began:6.1f} s  {what}")

    async def kills(self, number: int, seconds: float) -> None:
        """So many kills and stops of services, evenly spread; NATS once at a third, PostgreSQL once at two thirds."""
        pause = seconds / (number + 1)
        servers = {number // 3: "nats", number * 2 // 3: "postgres"}
        stops: list[asyncio.Task[None]] = []
        for turn in range(number):
            await asyncio.sleep(pause)
            if turn in servers:
                # PostgreSQL: immediate shutdown, which is a crash to it. Its postmaster alone would leave children.
                hard = signal.SIGKILL if servers[turn] == "nats" else signal.SIGQUIT
                if self.stack.signal(servers[turn], hard):
                    self.note(f"restart {servers[turn]}")
            service = self.random.choice(SERVICES)
            if self.random.random() < 0.3:
                stops.append(asyncio.create_task(self._stop(service)))
            elif self.stack.signal(service, signal.SIGKILL):
                self.note(f"kill {service}")
        await asyncio.gather(*stops)

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

    async def sweep(self, wanted: list[tuple[str, str]], *, at_once: int, seconds: float) -> None:
        """Join a replica armed with each point to its service: it takes half of the work, and dies at the point.

        A point that was missed is tried once more; nothing is begun after so many seconds.
        """
        end = time.monotonic() + seconds
        queue = [*wanted]
        again: set[tuple[str, str]] = set()

        async def work() -> None:
            while queue:
                service, point = one = queue.pop(0)
                name = f"{service} {point}"
                if time.monotonic() > end:
                    self.missed.append(f"{name} (no time)")
                elif (code := await self._armed(service, point)) == CRASH_EXIT:
                    self.reached.append(name)
                    self.note(f"crash {name}")
                elif one in again:
                    self.missed.append(f"{name} ({code})")
                else:
                    again.add(one)
                    queue.append(one)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def _armed(self, service: str, point: str) -> int | None:
        port = free_port()
        process = self.stack.replica(service, RELEVO_CRASH=point, RELEVO_HTTP_PORT=str(port))
        try:
            await _ready(process, port, START_SECONDS)
            return await _ended(process, POINT_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                await asyncio.to_thread(process.wait)


async def _ready(process: subprocess.Popen[bytes], port: int, seconds: float) -> None:
    """Wait until it is ready, has ended, or the time is over."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while process.poll() is None:
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                            return
                    await asyncio.sleep(0.1)


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return await asyncio.to_thread(process.wait, seconds)
    return None
