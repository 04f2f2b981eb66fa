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

from whole_stack import WholeStack

CRASH_EXIT = 137
STOP_SECONDS = 5.0
POINT_SECONDS = 12.0

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


def points(*, deep: bool) -> list[tuple[str, str]]:
    """Service and point; in the short run each common point in one service, in turn."""
    if deep:
        return [*itertools.product(BUSY, EVERYWHERE), *OWN]
    return [*zip(itertools.cycle(BUSY), EVERYWHERE, strict=False), *OWN]


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
        for turn in range(number):
            await asyncio.sleep(pause)
            if turn in servers:
                # PostgreSQL: immediate shutdown, which is a crash to it. Its postmaster alone would leave children.
                hard = signal.SIGKILL if servers[turn] == "nats" else signal.SIGQUIT
                if self.stack.signal(servers[turn], hard):
                    self.note(f"restart {servers[turn]}")
            service = self.random.choice(SERVICES)
            if self.random.random() < 0.3:
                await self._stop(service)
            elif self.stack.signal(service, signal.SIGKILL):
                self.note(f"kill {service}")

    async def _stop(self, service: str) -> None:
        pid = self.stack.pid(service)
        if pid is None or not self.stack.signal(service, signal.SIGSTOP):
            return
        self.note(f"stop {service}")
        try:
            await asyncio.sleep(STOP_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def sweep(self, wanted: list[tuple[str, str]], *, at_once: int) -> None:
        """Join a replica armed with each point to its service; it takes half of the work, and dies at the point."""
        queue = list(wanted)

        async def work() -> None:
            while queue:
                service, point = queue.pop(0)
                process = self.stack.replica(service, RELEVO_CRASH=f"{point}:{self.random.randint(1, 3)}")
                name = f"{service} {point}"
                try:
                    code = await _ended(process, POINT_SECONDS)
                finally:
                    if process.poll() is None:
                        process.terminate()
                if code == CRASH_EXIT:
                    self.reached.append(name)
                    self.note(f"crash {name}")
                else:
                    self.missed.append(f"{name} ({code})")
                    await _ended(process, 10)

        await asyncio.gather(*(work() for _ in range(at_once)))


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return await asyncio.to_thread(process.wait, seconds)
    return None
