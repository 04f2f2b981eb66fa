"""Rebuilding a projection: the whole log is read again into shadow tables, which then take the place of those in use.

The service goes on all the while. Progress commits with every batch, so that a rebuild that died goes on where it was.
At the end, in one transaction, the positions of the streams are locked, what came in meanwhile is read up to exactly
there, and the tables are exchanged: readers see the one or the other, and the live consumers go on behind the new
ones. Nothing is emitted: what a projection's handler would publish was published when the events were first handled.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NoReturn

import psycopg
import structlog
from nats.errors import Error as NatsError
from psycopg import sql
from sqlalchemy import text

from relevo.chassis import dropping, shadow
from relevo.chassis.bus import Bus, BusError
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described, is_transient
from relevo.chassis.history import History, HistoryUnavailable, received
from relevo.chassis.log import Log
from relevo.chassis.projection import Project, Projection
from relevo.chassis.received import Received
from relevo.contracts.catalogue import MESSAGES, read_by

log = structlog.get_logger("relevo.rebuild")

CLOSE_ENOUGH = 2000
"""Events; with no more left to read, the rest is read under the positions' locks."""
_ROUNDS = 20
_ATTEMPTS = 6
_LOCK = 80
_NO_END = 2**62

DDL_V2 = (
    """
    create table rebuilds (
        projection text not null,
        stream text not null,
        p smallint not null,
        seq bigint not null default 0,
        events bigint not null default 0,
        started_at timestamptz not null default now(),
        primary key (projection, stream, p)
    )
    """,
    "comment on table rebuilds is 'how far rebuilds under way have read; their tables are in the schema rebuild_<projection>'",
)

_MAKE = text(
    """
    insert into rebuilds (projection, stream, p)
    select :projection, :stream, p from generate_series(0, :count - 1) p on conflict do nothing
    """
)
_LANES = text("select stream, p, seq, events from rebuilds where projection = :projection order by stream, p")
_GO = text(
    """
    update rebuilds set seq = :seq, events = events + :events
    where projection = :projection and stream = :stream and p = :p and seq = :old
    """
)
_FORGET = text("delete from rebuilds where projection = :projection")
_POSITIONS = text("select stream, p, seq from position where stream = any(cast(:streams as text[])) order by stream, p")
_LOCK_POSITIONS = text(
    "select stream, p, seq, checked_until from position where stream = any(cast(:streams as text[])) "
    "order by stream, p for update"
)
# After it went back, a stream holds the same events under other numbers, up to `checked_until`.
_WENT_BACK = text(
    """
    select stream, p, checked_until from position
    where stream = any(cast(:streams as text[])) and checked_until > now() order by stream, p limit 1
    """
)
_STARTED = text("select min(started_at) from rebuilds where projection = :projection")
_MARKS = text("select stream, p, seq from relay_mark where stream = any(cast(:streams as text[]))")
_SKIPPED = text("select stream, stream_seq from dead_letters where stream = any(cast(:streams as text[]))")

_Lanes = dict[tuple[str, int], int]


class RebuildFailed(Exception):
    """A rebuild that cannot go on; the tables in use are untouched. The message says why."""


class RebuildRefused(RebuildFailed):
    """A rebuild that cannot even begin."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is: events read of those known to be there; ``phase`` is reading, exchanging or done."""

    projection: str
    phase: str
    lane: str
    events: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Report = Callable[[Progress], None]


class _SilentTx(Tx):
    """A transaction in which nothing may be emitted."""

    def emit(self, *_: Any, **__: Any) -> NoReturn:
        raise RebuildFailed("the handler of a projection emits events: it may write its tables only")


class Rebuild:
    """Builds one projection of a service anew."""

    def __init__(
        self, projection: Projection, *, bus: Bus, database: Database, owned: Log, report: Report = lambda _: None
    ) -> None:
        self._projection = projection
        self._name = projection.name
        self._schema = shadow.schema_of(projection.name)
        self._streams = {stream.name: stream for stream in projection.sources}
        self._own = {stream.name for stream in projection.sources if stream not in read_by(bus.service)}
        self._bus = bus
        self._database = database
        self._log = owned
        self._history = History(bus, owned)
        self._report = report
        self._began = time.monotonic()
        self._events = 0
        self._skipped: set[tuple[str, int]] = set()

    async def run(self, *, restart: bool = False) -> Progress:
        """Build it and put it in place. Goes on with one that died, unless ``restart``.

        Raises RebuildRefused when another process is at it or the tables cannot be rebuilt, RebuildFailed.
        """
        async with self._alone():
            await self._begin(restart=restart)
            rows = await self._database.single(_SKIPPED, {"streams": sorted(self._streams)})
            self._skipped = {(row.stream, row.stream_seq) for row in rows}
            await self._catch_up()
            crash_point("rebuild.before_exchange")
            await self._exchange()
        crash_point("rebuild.after_exchange")
        return self._tell("done", "")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One process at a time, by a lock on a connection of its own."""
        async with self._database.pool.connection() as connection:
            row = await (
                await connection.execute("select pg_try_advisory_lock(%s, hashtext(%s)) as mine", (_LOCK, self._name))
            ).fetchone()
            if row is None or not row.mine:
                raise RebuildRefused(f"{self._name} is being rebuilt already; wait for it, or end that process")
            try:
                yield
            finally:
                with suppress(psycopg.Error, OSError):
                    await connection.execute("select pg_advisory_unlock(%s, hashtext(%s))", (_LOCK, self._name))

    async def _begin(self, *, restart: bool) -> None:
        async with self._database.pool.connection() as connection, connection.transaction():
            there = await shadow.exists(connection, self._schema)
            if there and not restart:
                return
            tx = Tx(self._bus.service, connection)
            if back := (await tx.execute(_WENT_BACK, {"streams": sorted(self._streams)})).first():
                raise RebuildRefused(
                    f"{back.stream}/{back.p} went back to an earlier end and is published again: rebuild {self._name} "
                    f"after {back.checked_until:%H:%M} UTC"
                )
            await shadow.drop(connection, self._schema)
            try:
                await shadow.make(connection, self._schema, self._projection.tables)
            except shadow.CannotBeRebuilt as error:
                raise RebuildRefused(f"{self._name} cannot be rebuilt: {error}") from None
            await tx.execute(_FORGET, {"projection": self._name})
            for stream in self._streams.values():
                values = {"projection": self._name, "stream": stream.name, "count": stream.partitions}
                await tx.execute(_MAKE, values)

    async def _catch_up(self) -> None:
        """Read until hardly anything is left: what comes in meanwhile is read in the next round."""
        for _ in range(_ROUNDS):
            targets = await self._targets()
            lanes = await self._lanes()
            read = 0
            for lane, target in targets.items():
                read += await self._patiently(lane, lanes[lane], target)
            if read <= CLOSE_ENOUGH:
                return
        raise RebuildFailed(f"{self._name}: more comes in than can be read; try again when there is less traffic")

    async def _targets(self) -> _Lanes:
        """How far each lane is handled live; of streams of our own, how far it is published."""
        given = {"streams": sorted(self._streams)}
        found = {(row.stream, row.p): row.seq for row in await self._database.single(_POSITIONS, given)}
        marks = await self._database.single(_MARKS, {"streams": sorted(self._own)})
        found |= {(row.stream, row.p): row.seq for row in marks}
        return {lane: seq for lane, seq in found.items() if lane[1] < self._streams[lane[0]].partitions}

    async def _lanes(self) -> _Lanes:
        rows = (await self._database.single(_LANES, {"projection": self._name})).all()
        self._events = sum(row.events for row in rows)
        return {(row.stream, row.p): row.seq for row in rows}

    async def _patiently(self, lane: tuple[str, int], after: int, through: int) -> int:
        """Read one lane in transactions of a batch each; what passes by itself is tried again."""
        read, delay, attempts = 0, 0.2, 0
        while after < through:
            try:
                async for batch in self._reading(lane, after, through):
                    async with self._transaction() as tx:
                        await self._handle(tx, lane, batch, old=after, seq=batch[-1].seq)
                        crash_point("rebuild.before_commit")
                    after = batch[-1].seq
                    read += len(batch)
                    attempts, delay = 0, 0.2
                    self._events += len(batch)
                    self._tell("reading", f"{lane[0]}/{lane[1]}")
                async with self._transaction() as tx:
                    await self._handle(tx, lane, [], old=after, seq=through)
                return read
            except (HistoryUnavailable, BusError, NatsError, TimeoutError, OSError, psycopg.Error) as error:
                attempts += 1
                passes = isinstance(error, HistoryUnavailable | BusError) or is_transient(error)
                if attempts >= _ATTEMPTS or not passes:
                    raise RebuildFailed(f"{self._name}: {_told(error)}") from error
                log.warning("rebuild_again", lane=f"{lane[0]}/{lane[1]}", error=_told(error))
                await asyncio.sleep(delay)
                delay *= 2
                after = (await self._lanes())[lane]
        return read

    async def _reading(self, lane: tuple[str, int], after: int, through: int) -> AsyncIterator[list[Received]]:
        stream, p = self._streams[lane[0]], lane[1]
        if lane[0] not in self._own:
            async for batch in self._history.read(stream, p, after=after, through=through):
                yield batch
            return
        types = {message.name for message in MESSAGES if message.stream is stream}
        end = False
        while not end:
            page = await self._log.page(stream.name, p, after=after, before=through + 1, types=types)
            previous, batch = after, []
            for row in page.rows:
                batch.append(received(stream, p, row, previous))
                previous = row.seq
            if batch:
                yield batch
            after, end = page.through, page.end

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[_SilentTx]:
        """A transaction that sees the shadow in place of the projection's tables."""
        async with self._database.pool.connection() as connection, connection.transaction():
            await connection.execute(f"set local search_path = {self._schema}, public")
            yield _SilentTx(self._bus.service, connection)

    async def _handle(self, tx: Tx, lane: tuple[str, int], batch: Sequence[Received], *, old: int, seq: int) -> None:
        stream = self._streams[lane[0]]
        wanted = {message.name for message in read_by(self._bus.service).get(stream, ())} or None
        events = [
            one
            for one in batch
            if (wanted is None or one.type in wanted) and (stream.name, one.seq) not in self._skipped
        ]
        if events:
            await tx.enter(*{event.account for event in events})
            await _project(self._projection.sources[stream], events, tx)
        given = {"projection": self._name, "stream": stream.name, "p": lane[1], "old": old, "seq": seq}
        done = await tx.execute(_GO, given | {"events": len(batch)})
        if done.rowcount != 1:
            raise RebuildFailed(f"{self._name}: somebody else has read {stream.name}/{lane[1]} meanwhile")

    async def _exchange(self) -> None:
        """Under the positions' locks: the rest, then the exchange. Tried again while the locks cannot be had."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._transaction() as tx:
                    await tx.conn.execute("set local idle_in_transaction_session_timeout = '60s'")
                    await tx.conn.execute("set local statement_timeout = '300s'")
                    await self._exchange_in(tx)
                    crash_point("rebuild.before_exchange_commit")
                return
            except (HistoryUnavailable, BusError, NatsError, TimeoutError, OSError, psycopg.Error) as error:
                if attempt == _ATTEMPTS or not (
                    isinstance(error, HistoryUnavailable | BusError) or is_transient(error)
                ):
                    raise RebuildFailed(f"{self._name}: {_told(error)}") from error
                log.warning("rebuild_exchange_again", error=_told(error))
                await asyncio.sleep(0.2 * 2**attempt)

    async def _exchange_in(self, tx: _SilentTx) -> None:
        self._tell("exchanging", "")
        rows = (await tx.execute(_LOCK_POSITIONS, {"streams": sorted(self._streams)})).all()
        started = (await tx.execute(_STARTED, {"projection": self._name})).scalar_one()
        if back := next((row for row in rows if row.checked_until > started), None):
            raise RebuildFailed(
                f"{back.stream}/{back.p} went back to an earlier end while {self._name} was read, and holds its events "
                f"under other numbers now; begin anew with --restart after {back.checked_until:%H:%M} UTC"
            )
        ends = {(row.stream, row.p): row.seq for row in rows}
        lanes = await self._lanes()
        if self._own:
            # Our own changes write these tables without any position: nobody may, from here on.
            for table in self._projection.tables:
                await tx.conn.execute(f"lock table public.{table} in access exclusive mode")
        for lane, after in lanes.items():
            own = lane[0] in self._own
            waiting = await self._unpublished(lane) if own else []
            through = _NO_END if own else ends[lane]
            async for batch in self._reading(lane, after, through):
                await self._handle(tx, lane, batch, old=after, seq=batch[-1].seq)
                after = batch[-1].seq
            if waiting:
                await tx.enter(*{event.account for event in waiting})
                await _project(self._projection.sources[self._streams[lane[0]]], waiting, tx)
        await self._drop_gone(tx, started)
        if self._projection.tidy is not None:
            await self._projection.tidy(tx)
        await shadow.put_in_place(tx.conn, self._schema, self._projection.tables)
        await tx.execute(_FORGET, {"projection": self._name})

    async def _drop_gone(self, tx: _SilentTx, started: datetime) -> None:
        """What was read of accounts before they were dropped must not come back with the exchange."""
        gone = await dropping.gone_since(tx, started)
        if not gone:
            return
        await tx.enter(*gone)
        held = {table.name: table.column for table in await dropping.tables_of_accounts(tx, {})}
        for table in self._projection.tables:
            if table in held:
                statement = sql.SQL("delete from {}.{} where {}::text = any(%s::text[])").format(
                    sql.Identifier(self._schema), sql.Identifier(table), sql.Identifier(held[table])
                )
                await tx.conn.execute(statement, (gone,))

    async def _unpublished(self, lane: tuple[str, int]) -> list[Received]:
        stream, p = self._streams[lane[0]], lane[1]
        rows = await self._log.unpublished(stream.name, p)
        return [received(stream, p, row, 0) for row in rows]

    def _tell(self, phase: str, lane: str) -> Progress:
        progress = Progress(self._name, phase, lane, self._events, round(time.monotonic() - self._began, 3))
        self._report(progress)
        return progress


async def _project(handler: Project, events: Sequence[Received], tx: Tx) -> None:
    try:
        await handler(events, tx)
    except RebuildFailed:
        raise
    except Exception as error:
        if isinstance(error, psycopg.Error | TimeoutError | OSError) and is_transient(error):
            raise
        first, last = events[0], events[-1]
        raise RebuildFailed(
            f"events {first.seq} to {last.seq} of {first.stream.name}/{first.partition} cannot be projected: {described(error)}"
        ) from error


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, HistoryUnavailable) else described(error)
