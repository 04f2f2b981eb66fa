"""The log of an owner: everything it ever published, from the segments of the archive and from the outbox."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Database
from relevo.chassis.objects import ObjectStore
from relevo.chassis.segments import Block, LogRow, Segment, SegmentDamaged, read_block

PAGE_ROWS = 500
PAGE_BYTES = 600_000
"""Of bodies; with one that is larger, a page is that one row."""

_AT_ONCE = 4
"""Segments of a lane that are looked at for one page."""

_ROWS = text(
    """
    select id, created_at, cast(event_id as text) as event_id, subject, headers, body, seq
    from (
        select *, sum(octet_length(body)) over (order by seq) - octet_length(body) as before
        from (
            select id, created_at, event_id, subject, headers, body, stream_seq as seq from outbox
            where stream = :stream and p = :p and stream_seq > :after and stream_seq < :before
            order by stream_seq limit :limit
        ) as page
    ) as sized
    where before < :bytes order by seq
    """
)
_WAITING = text(
    """
    select id, created_at, cast(event_id as text) as event_id, subject, headers, body, 0 as seq
    from outbox where stream = :stream and p = :p and stream_seq is null order by id
    """
)
_SEGMENTS = text(
    f"""
    select day, previous_seq, first_seq, name, blocks from segments
    where stream = :stream and p = :p and last_seq > :after and first_seq < :before order by first_seq
    limit {_AT_ONCE}
    """
)
_BROKEN = text(
    """
    select day, previous_seq, expected from (
        select day, previous_seq, coalesce(max(last_seq) over (order by day rows between unbounded preceding and 1 preceding), 0) as expected
        from segments where stream = :stream and p = :p
    ) as chain where previous_seq <> expected order by day limit 1
    """
)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a lane, in order. It is complete up to ``through``; ``end``: there is no more before the bound."""

    rows: list[LogRow]
    through: int
    end: bool


class Log:
    """Reads the log of the service whose database this is."""

    def __init__(self, database: Database, store: ObjectStore | None) -> None:
        self._database = database
        self._store = store

    async def page(self, stream: str, p: int, *, after: int, before: int, types: Collection[str]) -> Page:
        """The rows of a lane with ``after`` < sequence < ``before`` that are of these types, as many as a page holds.

        Raises SegmentDamaged when a segment is missing or not as it was written.
        """
        bounds = {"stream": stream, "p": p, "after": after, "before": before}
        # An event that began before midnight and ended after it lies in the earlier day, with a later sequence: days
        # overlap a little. So every source gives its first rows and how far they reach, and the sorted whole is cut.
        sources = [await self._kept(bounds), *await self._archived(bounds)]
        reach = min(until for _, until in sources)
        rows: list[LogRow] = []
        size = 0
        for row in sorted((row for found, _ in sources for row in found if row.seq <= reach), key=lambda row: row.seq):
            if row.type not in types:
                continue
            if rows and (len(rows) == PAGE_ROWS or size + len(row.body) > PAGE_BYTES):
                return Page(rows, rows[-1].seq, end=False)
            rows.append(row)
            size += len(row.body)
        return Page(rows, reach, end=reach == before - 1)

    async def _kept(self, bounds: Mapping[str, Any]) -> tuple[list[LogRow], int]:
        """The first rows that the outbox has, and the sequence up to which they are all that it has."""
        found = await self._database.single(_ROWS, {**bounds, "limit": PAGE_ROWS, "bytes": PAGE_BYTES})
        rows = [LogRow(*row) for row in found]
        whole = len(rows) < PAGE_ROWS and sum(len(row.body) for row in rows) < PAGE_BYTES
        return rows, bounds["before"] - 1 if whole else rows[-1].seq

    async def _archived(self, bounds: Mapping[str, Any]) -> list[tuple[list[LogRow], int]]:
        """The same of the segments: one block of each that may come next."""
        manifest = (await self._database.single(_SEGMENTS, bounds)).all()
        if not manifest:
            return []
        lane = f"{bounds['stream']}/{bounds['p']}"
        if broken := (await self._database.single(_BROKEN, bounds)).first():
            raise SegmentDamaged(
                f"the manifest of {lane} lacks a segment: that of {broken.day} follows sequence {broken.previous_seq}, "
                f"but the one before it ends at {broken.expected}; restore the table segments from a backup"
            )
        if self._store is None:
            raise SegmentDamaged(
                f"{lane} has segments in an object store, but none is configured; set RELEVO_ARCHIVE_URL"
            )
        sources = []
        for row in manifest:
            blocks = tuple(Block(**block) for block in row.blocks)
            segment = Segment(bounds["stream"], bounds["p"], row.day, row.previous_seq, row.name, blocks)
            ahead = [block for block in blocks if block.last_seq > bounds["after"]]
            found = await read_block(self._store, segment, ahead[0])
            rows = [one for one in found if bounds["after"] < one.seq < bounds["before"]]
            last = ahead[0].last_seq if len(ahead) > 1 else bounds["before"] - 1
            sources.append((rows, min(last, bounds["before"] - 1)))
            if len(ahead) > 1 and (len(manifest) == 1 or ahead[0].last_seq < manifest[1].first_seq):
                break  # what follows lies beyond this block
        if len(manifest) == _AT_ONCE:
            sources.append(([], max(manifest[-1].first_seq - 1, bounds["after"])))
        return sources

    async def unpublished(self, stream: str, p: int) -> list[LogRow]:
        """The rows of a lane that are not in the stream yet, in the order in which they will be; their ``seq`` is 0."""
        return [LogRow(*row) for row in await self._database.single(_WAITING, {"stream": stream, "p": p})]
