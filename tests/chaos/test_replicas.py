"""Three replicas of conversation and of assignment: one is killed, stopped or drained, the others go on within seconds."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chaos import checker
from chaos.run import SEED, ChaosStack, under_load

ROUNDS = 12
RATE = 200.0
LEAST_RATE = 150.0
"""Messages a second that must be acknowledged around each: two cores carry fourteen services, servers and the load."""
MOVED_SECONDS = 5.0
STOPPED_SECONDS = 4.0 + 5.0
"""A stopped process keeps its partitions for the length of its lease."""
SERVICES = {"conversation": "EVT_INGEST", "assignment": "EVT_CONVERSATION"}
"""Scaled services, each with the stream whose events must flow again."""
_HOLDERS = """
    select objid::int, pid from pg_locks
    where locktype = 'advisory' and granted and classid = 77
      and database = (select oid from pg_database where datname = current_database())
"""
_PROCESS = "select pid from pg_stat_activity where datname = current_database() and application_name like %s and client_port = any(%s)"
_POSITIONS = "select p, seq from position where stream = %s"


@dataclass(frozen=True)
class Moved:
    """What became of one strike. Times in seconds from the signal on."""

    what: str
    replica: str
    partitions: int
    held_after: float
    flowing_after: float
    rate: float


class Watcher:
    """Looks at the leases and positions of one service."""

    def __init__(self, look: checker.Where, service: str) -> None:
        self._connection = psycopg.connect(
            look.databases[service], autocommit=True, options="-c default_transaction_read_only=on"
        )
        self._stream = SERVICES[service]
        self._service = service

    def close(self) -> None:
        self._connection.close()

    def holders(self) -> dict[int, int]:
        """Partition → backend that holds its lease."""
        return dict(self._connection.execute(_HOLDERS).fetchall())

    def backend(self, pid: int) -> int:
        """The backend of a process's lease connection."""
        (backend,) = self._connection.execute(_PROCESS, [f"%{self._service}-lease", list(ports(pid))]).fetchall()
        return int(backend[0])

    def positions(self) -> dict[int, int]:
        return dict(self._connection.execute(_POSITIONS, [self._stream]).fetchall())


def ports(pid: int) -> Iterator[int]:
    """The local TCP ports of a process."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            yield int(fields[1].rpartition(":")[2], 16)


async def strike(
    running: ChaosStack, watcher: Watcher, replica: str, number: signal.Signals, ledger: checker.Ledger
) -> Moved:
    """Send the signal, and wait until others hold what the replica held, and have handled events of it."""
    pid = running.stack.pid(replica)
    assert pid is not None
    backend = watcher.backend(pid)
    his = {p for p, holder in watcher.holders().items() if holder == backend}
    assert his, f"{replica} holds nothing"
    assert running.stack.signal(replica, number)
    struck = time.monotonic()
    held = flowing = 0.0
    before: dict[int, int] = {}
    while not flowing:
        holders = watcher.holders()
        elsewhere = {p for p in his if holders.get(p, backend) != backend}
        if not held and elsewhere == his:
            held = time.monotonic() - struck
            before = watcher.positions()
        if held:
            now = watcher.positions()
            if all(now[p] > before[p] for p in his):
                flowing = time.monotonic() - struck
        assert time.monotonic() - struck < 30, f"{replica} {number.name}: {sorted(his - elsewhere)} not held again"
        await asyncio.sleep(0.02)
    return Moved(number.name, replica, len(his), held, flowing, ledger.rate(struck - 2, struck + max(flowing, 2)))


async def all_three(running: ChaosStack, watcher: Watcher, service: str) -> None:
    """Wait until each of three replicas holds its share again."""
    end = time.monotonic() + 60
    while True:
        shares = sorted(list(watcher.holders().values()).count(holder) for holder in set(watcher.holders().values()))
        ready = [item for name, item in running.stack.running().items() if name.startswith(service) and item["ready"]]
        if len(ready) == 3 and shares == [4, 6, 6]:
            return
        assert time.monotonic() < end, f"{service}: {shares}, {len(ready)} ready"
        await asyncio.sleep(0.2)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "running", [("--scale", "conversation=3", "--scale", "assignment=3")], indirect=True, ids=["three of each"]
)
async def test_partitions_of_a_killed_replica_move_within_five_seconds(running: ChaosStack) -> None:
    luck = random.Random(SEED)
    moves: list[Moved] = []
    async with under_load(running, luck, rate=RATE, variety=False, settle=180, read_back=40) as scene:
        watchers = {service: Watcher(scene.look, service) for service in SERVICES}
        kinds: list[Any] = [signal.SIGKILL] * (ROUNDS - 4) + [signal.SIGSTOP, signal.SIGTERM] * 2
        luck.shuffle(kinds)
        for turn, kind in enumerate(kinds):
            service = list(SERVICES)[turn % 2]
            watcher = watchers[service]
            await all_three(running, watcher, service)
            replica = service + luck.choice(["", "-2", "-3"])
            pid = running.stack.pid(replica)
            move = await strike(running, watcher, replica, kind, scene.ledger)
            moves.append(move)
            print(
                f"  {move.what:<8} {move.replica:<16} {move.partitions} partitions held after {move.held_after:.2f} s, "
                f"flowing after {move.flowing_after:.2f} s, at {move.rate:.0f} messages/s"
            )
            if kind is signal.SIGSTOP:
                os.kill(pid or 0, signal.SIGCONT)
        for watcher in watchers.values():
            watcher.close()
    print(scene.verdict.text())
    assert scene.verdict.faults == {}
    assert scene.verdict.figures["lost"] == 0
    for move in moves:
        assert move.flowing_after < (STOPPED_SECONDS if move.what == "SIGSTOP" else MOVED_SECONDS), move
    assert {"SIGKILL", "SIGSTOP", "SIGTERM"} == {move.what for move in moves}
