"""The archive: closed outbox days move to the object store as segments, then their partition is dropped.

A day may go once it has ended so long ago that the streams have let go of it, and every row of it is in its stream.
Its objects are written, synced and read back first; then one transaction enters the manifest and drops the partition.
Whatever dies in between leaves the day where it was, and the next round writes the same objects again.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import structlog
from psycopg.rows import tuple_row

from relevo.chassis import stories, telemetry
from relevo.chassis.crash import crash_point
from relevo.chassis.objects import ObjectStore
from relevo.chassis.segments import BLOCK_ROWS, Block, LogRow, Segment, block_of, pack, read_block
from relevo.contracts.base import now
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.archive")

BLOCK_BYTES = 4 * 1024 * 1024
LOCK = 79
"""The advisory lock of whoever changes what the log consists of: the archive, the eraser."""
_PREFIX = "outbox_"

DDL_V2 = (
    """
    create table segments (
        stream text not null,
        p smallint not null,
        day date not null,
        previous_seq bigint not null,
        first_seq bigint not null,
        last_seq bigint not null,
        rows bigint not null,
        bytes bigint not null,
        name text not null,
        blocks jsonb not null,
        archived_at timestamptz not null default now(),
        primary key (stream, p, day)
    )
    """,
    "comment on table segments is 'manifest of the outbox days that are in the object store'",
    "comment on column segments.previous_seq is 'last_seq of the lane''s segment before this one: the chain shows a missing one'",
    "comment on column segments.blocks is 'first_seq, last_seq, offset, length, rows, sha256 of each gzip member'",
    "create index outbox_lane on outbox (stream, p, stream_seq) where stream_seq is not null",
)

_PAGE = """
    select id, created_at, event_id::text, subject, headers, body, stream_seq from {table}
    where stream = %s and p = %s and stream_seq > %s order by stream_seq limit %s
"""
_ENTER = """
    insert into segments (stream, p, day, previous_seq, first_seq, last_seq, rows, bytes, name, blocks)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


class DayChanged(Exception):
    """Rows of a day changed while it was written; it stays, and is written again."""


@dataclass(slots=True)
class Archived:
    """What one round did. ``kept`` tells why a day that is due stays, "" when none does."""

    days: int = 0
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    kept: str = ""


_Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Archive:
    """Archives the outbox of one service."""

    def __init__(
        self, service: str, database_url: str, store: ObjectStore, after: timedelta, placed: Stream | None = None
    ) -> None:
        """``after``: how long ago a day must have ended. ``placed``: the stream whose stories are told (`stories`)."""
        self._service = service
        self._url = database_url
        self._store = store
        self._after = after
        self._placed = placed

    async def run(self) -> Archived | None:
        """Archive every day that is due, the oldest first; None when another process is at it.

        Raises psycopg.Error and OSError; what was archived until then stays archived.
        """
        async with await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            row_factory=tuple_row,
            options="-c timezone=UTC -c lock_timeout=2s -c statement_timeout=10min",
            application_name=f"relevo-{self._service}-archive",
            connect_timeout=5,
        ) as connection:
            if not (await self._one(connection, "select pg_try_advisory_lock(%s, 0)", LOCK))[0]:
                return None
            return await self._run(connection)

    async def _run(self, connection: _Connection) -> Archived:
        done = Archived()
        if self._placed is not None and (found := await stories.note_earlier(connection, self._store, self._placed)):
            log.info("segments_placed", segments=found)
        due = [day for day in await self._days(connection) if now() - _end(day) >= self._after]
        for day in due:
            try:
                segments = await self._archive(connection, day)
            except DayChanged as reason:
                done.kept = str(reason)
                log.warning("outbox_day_kept", day=day.isoformat(), reason=done.kept)
                break
            done.days += 1
            done.segments += len(segments)
            done.rows += sum(segment.rows for segment in segments)
            done.bytes += sum(segment.size for segment in segments)
            telemetry.ARCHIVED_ROWS.labels(self._service).inc(sum(segment.rows for segment in segments))
            log.info("outbox_day_archived", day=day.isoformat(), segments=len(segments), rows=done.rows)
        overdue = (now() - _end(due[done.days]) - self._after).total_seconds() if done.days < len(due) else 0.0
        telemetry.ARCHIVE_OVERDUE.labels(self._service).set(overdue)
        return done

    async def _days(self, connection: _Connection) -> list[date]:
        rows = await connection.execute(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
            "where i.inhparent = 'outbox'::regclass order by 1"
        )
        return [datetime.strptime(row[0], f"{_PREFIX}%Y%m%d").replace(tzinfo=UTC).date() async for row in rows]

    async def _archive(self, connection: _Connection, day: date) -> list[Segment]:
        table = f"{_PREFIX}{day:%Y%m%d}"
        lanes = await self._lanes(connection, table)
        segments = []
        for (stream, p), (count, _) in sorted(lanes.items()):
            segment = await self._write(connection, table, day, stream, p)
            if segment.rows != count:
                raise DayChanged(f"{table}: {stream}/{p} has {count} rows, {segment.rows} were written")
            segments.append(segment)
        crash_point("archive.before_manifest")
        async with connection.transaction():
            # The parent first, and only for moments: whoever writes into the outbox locks it in this order, too.
            await connection.execute("lock table outbox in access exclusive mode")
            if {lane: last for lane, (_, last) in lanes.items()} != await self._ends(connection, table, lanes):
                raise DayChanged(f"{table}: rows were published again meanwhile")
            for segment in segments:
                await connection.execute(
                    _ENTER,
                    (
                        segment.stream,
                        segment.p,
                        segment.day,
                        segment.previous_seq,
                        segment.first_seq,
                        segment.last_seq,
                        segment.rows,
                        segment.size,
                        segment.name,
                        json.dumps([asdict(block) for block in segment.blocks]),
                    ),
                )
            crash_point("archive.before_drop")
            await connection.execute(f"drop table {table}")
        crash_point("archive.after_drop")
        return segments

    async def _lanes(self, connection: _Connection, table: str) -> dict[tuple[str, int], tuple[int, int]]:
        """Rows and last sequence of every lane of a day. Raises DayChanged when a row is not in its stream yet."""
        rows = await connection.execute(
            f"select stream, p, count(*), max(stream_seq), count(*) filter (where stream_seq is null) from {table} "
            "group by 1, 2"
        )
        found = {}
        async for stream, p, count, last, waiting in rows:
            if waiting:
                raise DayChanged(f"{table}: {waiting} rows of {stream}/{p} are not in their stream yet")
            found[stream, p] = (count, last)
        return found

    async def _ends(
        self, connection: _Connection, table: str, lanes: Mapping[tuple[str, int], object]
    ) -> dict[tuple[str, int], int]:
        """The last sequence of these lanes, by index only. Raises DayChanged when a row waits again."""
        waiting = await self._one(connection, f"select exists (select 1 from {table} where stream_seq is null)")
        if waiting[0]:
            raise DayChanged(f"{table}: rows were opened again meanwhile")
        found = {}
        for stream, p in lanes:
            row = await self._one(
                connection,
                f"select max(stream_seq) from {table} where stream = %s and p = %s and stream_seq is not null",
                stream,
                p,
            )
            found[stream, p] = row[0]
        return found

    async def _write(self, connection: _Connection, table: str, day: date, stream: str, p: int) -> Segment:
        """Write one lane of a day, and read it back."""
        previous = await self._one(
            connection, "select coalesce(max(last_seq), 0) from segments where stream = %s and p = %s", stream, p
        )
        name = f"{self._service}/{day.isoformat()}/{stream}.{p:02d}.gz"
        blocks: list[Block] = []

        async def chunks() -> AsyncIterator[bytes]:
            offset = 0
            async for rows in self._blocks(connection, table, stream, p):
                packed = pack(rows)
                blocks.append(block_of(rows, packed, offset))
                offset += len(packed)
                yield packed

        await self._store.put(name, chunks())
        crash_point("archive.after_object")
        segment = Segment(stream, p, day, previous[0], name, tuple(blocks))
        for block in blocks:
            await read_block(self._store, segment, block)
        if self._placed is not None and stream == self._placed.name:
            # Before the manifest has it: whoever asks finds a story in the outbox until then, and here from then on.
            await stories.note(connection, self._store, segment)
        return segment

    async def _blocks(self, connection: _Connection, table: str, stream: str, p: int) -> AsyncIterator[list[LogRow]]:
        after, size, block = 0, 0, list[LogRow]()
        while True:
            page = await connection.execute(_PAGE.format(table=table), (stream, p, after, BLOCK_ROWS // 10))
            rows = [LogRow(*row) for row in await page.fetchall()]
            for row in rows:
                if block and (len(block) >= BLOCK_ROWS or size + len(row.body) > BLOCK_BYTES):
                    yield block
                    size, block = 0, []
                block.append(row)
                size += len(row.body)
            if not rows:
                if block:
                    yield block
                return
            after = rows[-1].seq

    async def _one(self, connection: _Connection, query: str, *values: Any) -> tuple[Any, ...]:
        row = await (await connection.execute(query, values)).fetchone()
        assert row is not None, "an aggregate gives a row"
        return row


def _end(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
