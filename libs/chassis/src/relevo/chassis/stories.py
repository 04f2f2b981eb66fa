"""Stories: the events of one entity, out of its owner's log, without reading the rest of it.

The outbox has an index by entity. When a day of it is archived, the places of each entity's events are noted: one row for
each block of a segment that tells of it. So a page of a story reads as many blocks as it shows stretches of time, and
what an entity was at a moment is one block, however long the log is.

A row's id is its place in the story: rows of one entity are written while it is locked, so that ids rise as its numbers do.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import text

from relevo.chassis.database import Database
from relevo.chassis.objects import ObjectStore
from relevo.chassis.segments import Block, LogRow, Segment, SegmentDamaged, read_block
from relevo.contracts.streams import Stream

MOST_BLOCKS: Final = 12
"""Blocks of the archive that one page reads; it ends early rather than read more."""
DOOR: Final = "archive"
"""The door through which the archive notes places, of whatever accounts a day tells of."""
_AT_ONCE: Final = 50
_LATE: Final = timedelta(minutes=1)
"""A transaction that began before a moment may record what it did after it; clocks differ a little, too."""


def ddl(stream: Stream) -> tuple[str, ...]:
    """The tables and the index that the stories of this stream need."""
    return (
        f"create index outbox_entity on outbox (split_part(subject, '.', 4), id) where stream = '{stream.name}'",
        """
        create table log_places (
            account_id uuid not null,
            entity text not null,
            first_id bigint not null,
            last_id bigint not null,
            first_at timestamptz not null,
            day date not null,
            p smallint not null,
            seq bigint not null,
            primary key (account_id, entity, first_id)
        )
        """,
        "comment on table log_places is 'which blocks of the archive tell of an entity'",
        "comment on column log_places.seq is 'of one of its events there: it names the block'",
        "create table log_placed (day date not null, p smallint not null, primary key (day, p))",
        "comment on table log_placed is 'the segments whose events are in log_places'",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """The events of one entity in one block: the first and last row id, when the first was recorded, the first's sequence."""

    account: str
    entity: str
    first_id: int
    last_id: int
    first_at: datetime
    seq: int


def recorded(row: LogRow) -> datetime:
    """When an event was recorded, by its sender's clock."""
    told = json.loads(row.headers).get("relevo-recorded")
    return datetime.fromisoformat(told).astimezone(UTC) if told else row.created_at


def places_of(rows: Iterable[LogRow]) -> list[Place]:
    """Where a block tells of whom."""
    found: dict[tuple[str, str], list[LogRow]] = {}
    for row in rows:
        tokens = row.subject.split(".")
        found.setdefault((tokens[2], tokens[3]), []).append(row)
    places = []
    for (account, entity), own in found.items():
        ids = [row.id for row in own]
        places.append(Place(account, entity, min(ids), max(ids), min(map(recorded, own)), own[0].seq))
    return places


_NOTE = """
    insert into log_places (account_id, entity, first_id, last_id, first_at, day, p, seq)
    select account_id, entity, first_id, last_id, first_at, %s, %s, seq
    from unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[])
        as n (account_id, entity, first_id, last_id, first_at, seq)
    on conflict (account_id, entity, first_id) do update set last_id = excluded.last_id, seq = excluded.seq
"""
_NOTED = "insert into log_placed (day, p) values (%s, %s) on conflict do nothing"
_UNPLACED = """
    select p, day, previous_seq, name, blocks from segments s
    where stream = %s and not exists (select from log_placed d where d.day = s.day and d.p = s.p) order by day, p
"""


async def note(connection: psycopg.AsyncConnection[Any], store: ObjectStore, segment: Segment) -> None:
    """Keep where a segment tells of whom; twice is as once. Raises SegmentDamaged."""
    for block in segment.blocks:
        places = places_of(await read_block(store, segment, block))
        async with connection.transaction():
            await connection.execute("select set_config('relevo.door', %s, true)", (DOOR,))
            await connection.execute(
                _NOTE,
                (
                    segment.day,
                    segment.p,
                    [one.account for one in places],
                    [one.entity for one in places],
                    [one.first_id for one in places],
                    [one.last_id for one in places],
                    [one.first_at for one in places],
                    [one.seq for one in places],
                ),
            )
    await connection.execute(_NOTED, (segment.day, segment.p))


async def note_earlier(connection: psycopg.AsyncConnection[Any], store: ObjectStore, stream: Stream) -> int:
    """Note the places of segments that were archived before anybody did; answers how many segments."""
    rows = await (await connection.execute(_UNPLACED, (stream.name,))).fetchall()
    for p, day, previous, name, blocks in rows:
        found = tuple(Block(**block) for block in blocks)
        await note(connection, store, Segment(stream.name, p, day, previous, name, found))
    return len(rows)


_COLUMNS: Final = (
    "id, created_at, cast(event_id as text) as event_id, subject, headers, body, coalesce(stream_seq, 0) as seq"
)
_OWN: Final = "stream = '{stream}' and split_part(subject, '.', 4) = :entity and starts_with(subject, :of)"


class _Statements:
    """What is asked of the outbox. The stream stands in them, since the index is of that one only, which a parameter might not be.

    By the index by entity, whatever the planner believes of how many rows that is: `id + 0` is the order of no index, where
    one by `id` would be walked from its beginning, through everybody's rows. What is read is what one entity has there.
    """

    def __init__(self, stream: Stream) -> None:
        own = _OWN.format(stream=stream.name)
        rows = f"select {_COLUMNS} from outbox where"
        self.forward = text(f"{rows} {own} and id > :after order by id + 0 limit :limit")
        self.backward = text(f"{rows} {own} and id < :after order by id + 0 desc limit :limit")
        self.until = text(f"{rows} {own} and id < :after and created_at <= :until order by id + 0 desc limit :limit")
        # By their ids alone: the index by entity would read all that there is of it.
        self.found = text(f"{rows} starts_with(subject, :of) and event_id = any(cast(:events as uuid[]))")


_PLACES: Final = """
    select l.first_id, l.last_id, l.day, l.p, l.seq, s.previous_seq, s.name, s.blocks
    from log_places l join segments s on s.day = l.day and s.p = l.p and s.stream = :stream
    where l.account_id = cast(:account as uuid) and l.entity = :entity and {which} order by l.first_id {order} limit :limit
"""
_PLACES_FORWARD = text(_PLACES.format(which="l.last_id > :after", order=""))
_PLACES_BACKWARD = text(_PLACES.format(which="l.first_id < :after", order="desc"))
_PLACES_UNTIL = text(_PLACES.format(which="l.first_at <= :until", order="desc"))
LAST_ID: Final = 2**63 - 1
"""Behind every row: where a story that is told backwards begins."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a story, in the order asked for: all of it up to the row id ``through``. ``more``: it goes on behind that."""

    rows: list[LogRow]
    through: int
    more: bool


class Stories:
    """Tells the stories of one stream of the service whose database this is."""

    def __init__(self, database: Database, store: ObjectStore | None, stream: Stream) -> None:
        self._database = database
        self._store = store
        self._stream = stream
        self._sql = _Statements(stream)

    async def stretch(
        self, account: str, entity: str, *, after: int | None, limit: int, newest_first: bool = False
    ) -> Stretch:
        """Up to ``limit`` events behind the row ``after``; None: from the beginning.

        May hold fewer, even none, and yet have more behind it: then MOST_BLOCKS were read. Raises SegmentDamaged.
        """
        start = after if after is not None else LAST_ID if newest_first else 0
        given = {**self._named(account, entity), "after": start}
        # The outbox first: a day that is archived meanwhile is found in both, and not in neither.
        live = await self._rows(
            self._sql.backward if newest_first else self._sql.forward, {**given, "limit": limit + 1}
        )
        places = (
            await self._database.single(
                _PLACES_BACKWARD if newest_first else _PLACES_FORWARD,
                {**given, "limit": MOST_BLOCKS + 1},
                accounts=(account,),
            )
        ).all()
        found = {row.id: row for row in live}
        end: int | None = None
        for n, place in enumerate(places):
            # What stands in the places that come next lies behind where they begin, or, backwards, before where they end.
            ahead = [
                row for row in found.values() if (row.id > place.last_id if newest_first else row.id < place.first_id)
            ]
            if len(ahead) > limit or n == MOST_BLOCKS:
                end = place.last_id + 1 if newest_first else place.first_id - 1
                break
            for row in await self._told(place, account, entity):
                if row.id < start if newest_first else row.id > start:
                    found[row.id] = row
        within = (id_ for id_ in found if end is None or (id_ >= end if newest_first else id_ <= end))
        rows = [found[id_] for id_ in sorted(within, reverse=newest_first)]
        if len(rows) > limit:
            return Stretch(rows[:limit], rows[limit - 1].id, more=True)
        return Stretch(rows, end if end is not None else rows[-1].id if rows else start, more=end is not None)

    async def found(self, account: str, entity: str, events: Collection[str]) -> list[LogRow]:
        """These events of an entity, as far as the outbox still has them."""
        given = {**self._named(account, entity), "events": sorted(events)}
        return await self._rows(self._sql.found, given) if events else []

    async def last(
        self, account: str, entity: str, until: datetime, types: Collection[str] = (), *, but: Collection[str] = ()
    ) -> LogRow | None:
        """The last event that was recorded at ``until`` or before, of these types, but not of those; None: the log has none.

        Raises SegmentDamaged.
        """

        def fits(row: LogRow) -> bool:
            return recorded(row) <= until and (not types or row.type in types) and row.type not in but

        given = {**self._named(account, entity), "until": until + _LATE}
        after = LAST_ID
        while True:
            rows = await self._rows(self._sql.until, {**given, "after": after, "limit": _AT_ONCE})
            for row in rows:
                if fits(row):
                    return row
            if len(rows) < _AT_ONCE:
                break
            after = rows[-1].id
        places = await self._database.single(
            _PLACES_UNTIL, {**given, "until": until, "limit": MOST_BLOCKS}, accounts=(account,)
        )
        for place in places:
            told = await self._told(place, account, entity)
            for row in reversed(told):
                if fits(row):
                    return row
        return None

    def _named(self, account: str, entity: str) -> dict[str, str]:
        of = self._stream.published(account=account, entity=entity).removesuffix("*")
        return {"stream": self._stream.name, "account": account, "entity": entity, "of": of}

    async def _rows(self, statement: Any, given: Mapping[str, Any]) -> list[LogRow]:
        return [LogRow(*row) for row in await self._database.single(statement, given)]

    async def _told(self, place: Any, account: str, entity: str) -> list[LogRow]:
        """What one block tells of an entity, in order."""
        if self._store is None:
            raise SegmentDamaged(
                f"{self._stream.name} has segments in an object store, but none is configured; set RELEVO_ARCHIVE_URL"
            )
        blocks = tuple(Block(**block) for block in place.blocks)
        segment = Segment(self._stream.name, place.p, place.day, place.previous_seq, place.name, blocks)
        block = next((block for block in blocks if block.first_seq <= place.seq <= block.last_seq), None)
        if block is None:  # noted by a round that died, of what the next one wrote otherwise
            return []
        rows = await read_block(self._store, segment, block)
        return sorted((row for row in rows if row.subject.split(".")[2:4] == [account, entity]), key=lambda row: row.id)
