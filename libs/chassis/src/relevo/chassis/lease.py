"""Leases: which partitions this process works.

A lease is a session advisory lock, and all locks of a process are on one connection with an
``idle_session_timeout``. The event loop itself keeps that connection alive, so a stopped or stalled process loses its
leases, and the replicas that live take them within seconds. Every process also holds a shared lock: its holders are
the members, and a fair share is ceil(partitions / members).
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

import psycopg
import structlog
from psycopg.rows import tuple_row

from relevo.chassis import telemetry
from relevo.chassis.database import described
from relevo.contracts.streams import PARTITIONS

log = structlog.get_logger("relevo.lease")

_LEASE = 77
_MEMBER = 78
_BEAT = 1.0
"""Seconds between two looks, or a quarter of a lease that is shorter than four of them."""
_BEAT_OF_MANY = 0.25
"""Of a process that has others beside it: what one leaves behind that dies has nobody until somebody looks."""

_LOCKS = """
    select classid::int, objid::int, pid = pg_backend_pid() from pg_locks
    where locktype = 'advisory' and granted and classid in (77, 78)
      and database = (select oid from pg_database where datname = current_database())
"""


class Leases:
    """Takes, shares and hands over partitions.

    ``take(p)`` and ``put_down(p)`` are called as partitions come and go; ``put_down`` returns when nothing works on the
    partition any more. Safety does not rest on leases (positions are compared and set), only order of effort does.
    """

    def __init__(
        self,
        dsn: str,
        *,
        seconds: float,
        take: Callable[[int], Awaitable[None]],
        put_down: Callable[[int], Awaitable[None]],
        service: str,
    ) -> None:
        self._dsn = dsn
        self._seconds = seconds
        self._beat = min(_BEAT, seconds / 4)
        self._take = take
        self._put_down = put_down
        self._service = service
        self._stopping = False
        self._wake = asyncio.Event()
        self.held: set[int] = set()
        self.settled = asyncio.Event()
        """Set once this process has first taken its share."""

    async def run(self) -> None:
        """Hold leases until stopped; a lost connection puts everything down and starts again."""
        while not self._stopping:
            try:
                await self._hold()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("leases_lost", error=described(error), held=len(self.held))
                await self._put_down_all()
                await asyncio.sleep(self._beat)

    async def stop(self) -> None:
        """Hand everything over, and end ``run``."""
        self._stopping = True
        self._wake.set()

    async def _put_down_all(self) -> None:
        for p in sorted(self.held):
            self.held.discard(p)
            await self._put_down(p)
        telemetry.LEASES.labels(self._service).set(0)

    async def _hold(self) -> None:
        options = f"-c idle_session_timeout={int(self._seconds * 1000)} -c statement_timeout=3s"
        async with await psycopg.AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            row_factory=tuple_row,
            options=options,
            connect_timeout=5,
            application_name=f"relevo-{self._service}-lease",
        ) as connection:
            await connection.execute("select pg_advisory_lock_shared(%s, 0)", (_MEMBER,))
            while True:
                members = await self._balance(connection)
                if self._stopping:
                    return
                try:
                    async with asyncio.timeout(min(self._beat, _BEAT_OF_MANY) if members > 1 else self._beat):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _balance(self, connection: psycopg.AsyncConnection[tuple[int, int, bool]]) -> int:
        """Take, or put down, what is needed to hold a fair share; answers how many share."""
        rows = await (await connection.execute(_LOCKS)).fetchall()
        members = sum(1 for classid, _, _ in rows if classid == _MEMBER)
        taken = {objid for classid, objid, _ in rows if classid == _LEASE}
        mine = {objid for classid, objid, ours in rows if classid == _LEASE and ours}
        if self.held - mine:
            raise psycopg.OperationalError("the lease connection no longer holds what it held")
        share = 0 if self._stopping else math.ceil(PARTITIONS / max(members, 1))
        for p in sorted(self.held)[share:]:
            self.held.discard(p)
            await self._put_down(p)
            await connection.execute("select pg_advisory_unlock(%s, %s)", (_LEASE, p))
        free = [p for p in range(PARTITIONS) if p not in taken]
        random.shuffle(free)
        for p in free[: max(share - len(self.held), 0)]:
            row = await (await connection.execute("select pg_try_advisory_lock(%s, %s)", (_LEASE, p))).fetchone()
            if row and row[0]:
                self.held.add(p)
                await self._take(p)
        telemetry.LEASES.labels(self._service).set(len(self.held))
        if not self._stopping:
            self.settled.set()
        return members
