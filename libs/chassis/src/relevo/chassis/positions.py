"""Positions: how far a consumer has come in every partition, and what it handled lately.

A position says up to which sequence of a (stream, partition) the effects are committed. It moves by compare-and-set, in
the transaction of the effects. A stream that was lost and published again holds the same events at other sequences,
and then the position alone cannot tell what is new. So the ids of what was handled are kept beside it for a while,
by lane (a partition as one sender fills it), and `known` decides for every event by itself:

- its id is kept: handled;
- it was recorded more than WINDOW before the newest that was handled in its lane: handled, since a lane is published
  in the order of the outbox, from which commits deviate by no more than a transaction lasts;
- otherwise not.

INBOUND has no outbox behind it and its senders' times are their own: there only the ids count, and ingest's ledger
folds the rest.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import md5

from sqlalchemy import text

from relevo.chassis.database import Database, Tx
from relevo.chassis.received import Received
from relevo.contracts.streams import INBOUND, Stream

WINDOW = timedelta(minutes=10)
"""Of a lane's own time. Far more than a transaction lasts and the clocks of a service's replicas differ."""

DDL_V1 = (
    """
    create table position (
        stream text not null,
        p smallint not null,
        seq bigint not null default 0,
        message_id text not null default '',
        at timestamptz not null default 'epoch',
        primary key (stream, p)
    )
    """,
    "comment on table position is 'last stream sequence whose effects are committed, by partition; moved by compare-and-set'",
)
DDL_V2 = (
    """
    alter table position
        add column checked_until timestamptz not null default 'epoch',
        add column rewinds int not null default 0
    """,
    "comment on column position.checked_until is 'what the stream stored up to then may have been handled before a rewind'",
    "comment on column position.rewinds is 'how often the position went back; a batch read before that cannot commit'",
    """
    create table handled (
        stream text not null,
        p smallint not null,
        sender text not null,
        recorded timestamptz not null,
        ids uuid[] not null
    )
    """,
    "create index handled_lane on handled (stream, p, sender, recorded)",
    "alter table handled alter column ids set storage external",
    "comment on table handled is 'ids of what was handled lately, a row for each batch and lane; recorded is the newest'",
)

_READ = text("select seq, message_id, at, checked_until, rewinds from position where stream = :stream and p = :p")
_MAKE = text(
    """
    insert into position (stream, p)
    select n.stream, p from unnest(cast(:streams as text[]), cast(:counts as int[])) as n(stream, count),
                            generate_series(0, n.count - 1) as p
    on conflict do nothing
    """
)
_MOVE = text(
    """
    with moved as (
        update position o set seq = n.seq, message_id = n.message_id, at = n.at
        from unnest(cast(:streams as text[]), cast(:ps as smallint[]), cast(:olds as bigint[]), cast(:rewinds as int[]),
                    cast(:seqs as bigint[]), cast(:ids as text[]), cast(:ats as timestamptz[]))
             as n(stream, p, old, rewinds, seq, message_id, at)
        where o.stream = n.stream and o.p = n.p and o.seq = n.old and o.rewinds = n.rewinds
        returning o.stream, o.p
    ), remembered as (
        insert into handled (stream, p, sender, recorded, ids)
        select n.stream, n.p, n.sender, n.recorded, cast(n.ids as uuid[])
        from unnest(cast(:lane_streams as text[]), cast(:lane_ps as smallint[]), cast(:lane_senders as text[]),
                    cast(:lane_recorded as timestamptz[]), cast(:lane_ids as text[]))
             as n(stream, p, sender, recorded, ids)
    )
    select stream, p from moved
    """
)
_REWIND = text(
    """
    update position
    set seq = :seq, message_id = :message_id, at = :at, checked_until = greatest(checked_until, :checked_until),
        rewinds = rewinds + 1
    where stream = :stream and p = :p and seq = :old and rewinds = :rewinds
    """
)
_NEWEST = text(
    """
    select h.stream, h.p, h.sender, max(h.recorded) as newest
    from unnest(cast(:streams as text[]), cast(:ps as smallint[])) as n(stream, p)
    join handled h on h.stream = n.stream and h.p = n.p group by h.stream, h.p, h.sender
    """
)
_KEPT = text(
    """
    select h.stream, cast(i.id as text) as id
    from unnest(cast(:streams as text[]), cast(:ps as smallint[])) as n(stream, p)
    join handled h on h.stream = n.stream and h.p = n.p, unnest(h.ids) as i(id)
    where i.id = any(cast(:ids as uuid[]))
    """
)
_PRUNE = text(
    """
    with lane as (
        select stream, p, sender, max(recorded) as newest from handled group by stream, p, sender
    )
    delete from handled h using lane
    where h.stream = lane.stream and h.p = lane.p and h.sender = lane.sender
      and h.recorded < lane.newest - cast(:window as interval)
    """
)

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


Memory = tuple[str, str]
"""A stream, and 32 hexadecimal digits."""


class PositionMoved(Exception):
    """Somebody else handled these events: this replica's lease is gone, or it reads from an old place.

    ``partitions`` are those (stream, partition) whose position was another than the batch was read under.
    """

    def __init__(self, partitions: Collection[tuple[str, int]]) -> None:
        super().__init__(", ".join(f"{stream}/{p}" for stream, p in sorted(partitions)))
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Position:
    """The last message of a partition whose effects are committed; ``seq`` 0: none yet.

    ``at`` is when the stream stored it. What the stream stored until ``checked_until`` may have been handled before the
    position last went back, which it did ``rewinds`` times.
    """

    seq: int
    message_id: str
    at: datetime
    checked_until: datetime
    rewinds: int


class Positions:
    """The positions of one service, in all streams that it reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, streams: Sequence[Stream]) -> None:
        """Make the rows that are missing."""
        await self._database.single(
            _MAKE,
            {"streams": [stream.name for stream in streams], "counts": [stream.partitions for stream in streams]},
        )

    async def read(self, stream: Stream, p: int) -> Position:
        row = (await self._database.single(_READ, {"stream": stream.name, "p": p})).one()
        return Position(row.seq, row.message_id, row.at, row.checked_until, row.rewinds)

    async def move(self, tx: Tx, runs: Sequence[Sequence[Received]], known: Collection[Memory] = ()) -> None:
        """Compare and set the positions of the partitions that ``runs`` come from, and keep the ids of what is new.

        Each run is of one partition, in order, from just after the position that it was read under. Raises PositionMoved;
        then the transaction must not commit.
        """
        lanes = _lanes(event for events in runs for event in events if not known or memory(event) not in known)
        moved = await tx.execute(
            _MOVE,
            {
                "streams": [events[0].stream.name for events in runs],
                "ps": [events[0].partition for events in runs],
                "olds": [events[0].previous for events in runs],
                "rewinds": [events[0].rewinds for events in runs],
                "seqs": [events[-1].seq for events in runs],
                "ids": [events[-1].message_id for events in runs],
                "ats": [events[-1].time for events in runs],
                "lane_streams": [stream for stream, _, _ in lanes],
                "lane_ps": [p for _, p, _ in lanes],
                "lane_senders": [sender for _, _, sender in lanes],
                "lane_recorded": [_newest(events) for events in lanes.values()],
                "lane_ids": ["{" + ",".join(memory(event)[1] for event in events) + "}" for events in lanes.values()],
            },
        )
        if len(moved) != len(runs):
            asked = {(events[0].stream.name, events[0].partition) for events in runs}
            raise PositionMoved(asked - {(row.stream, row.p) for row in moved})

    async def known(self, tx: Tx, events: Sequence[Received]) -> frozenset[Memory]:
        """Those events that were handled already, at whatever sequence they came then."""
        partitions = sorted({(event.stream.name, event.partition) for event in events})
        where = {"streams": [stream for stream, _ in partitions], "ps": [p for _, p in partitions]}
        floor = {(row.stream, row.p, row.sender): row.newest - WINDOW for row in await tx.execute(_NEWEST, where)}
        found: set[Memory] = set()
        unsure: list[Memory] = []
        for event in events:
            limit = None if event.stream is INBOUND else floor.get(_lane(event))
            if limit is not None and event.recorded < limit:
                found.add(memory(event))
            else:
                unsure.append(memory(event))
        if unsure:
            kept = await tx.execute(_KEPT, where | {"ids": [id_ for _, id_ in unsure]})
            found.update({(row.stream, row.id.replace("-", "")) for row in kept}.intersection(unsure))
        return frozenset(found)

    async def rewind(
        self, stream: Stream, p: int, position: Position, *, to: int, message_id: str, at: datetime, until: datetime
    ) -> bool:
        """Go back from ``position`` to behind the message ``to``; what was stored ``until`` then is checked before it is handled.

        Tells whether it was done: not when the position has moved meanwhile.
        """
        result = await self._database.single(
            _REWIND,
            {
                "stream": stream.name,
                "p": p,
                "old": position.seq,
                "rewinds": position.rewinds,
                "seq": to,
                "message_id": message_id,
                "at": at,
                "checked_until": until,
            },
        )
        return result.rowcount == 1

    async def prune(self) -> None:
        """Forget the ids that are older than WINDOW in their lane; the newest of a lane stay, however old."""
        await self._database.single(_PRUNE, {"window": WINDOW})


def _lanes(events: Iterable[Received]) -> dict[tuple[str, int, str], list[Received]]:
    found: dict[tuple[str, int, str], list[Received]] = {}
    for event in events:
        found.setdefault(_lane(event), []).append(event)
    return found


def _newest(events: Sequence[Received]) -> datetime:
    """When the newest of a lane's events was recorded, or a transaction's length earlier: the last one, unless some came again."""
    return max(event.recorded for event in events) if any(e.doubtful for e in events) else events[-1].recorded


def _lane(event: Received) -> tuple[str, int, str]:
    """The partition, and who else than one service fills it: only requests have several senders."""
    stream = event.stream.name
    if not stream.startswith("CMD_"):
        return stream, event.partition, ""
    tokens = event.subject.split(".")
    return stream, event.partition, tokens[3] if len(tokens) > 3 else ""


def unhandled(events: Sequence[Received], known: Collection[Memory]) -> list[Received]:
    """The events whose effects are still to come: none that is known, and none twice.

    One batch may hold an event from its owner's log and once more from the stream that was filled again.
    """
    found = []
    here: set[Memory] = set()
    for event in events:
        remembered = memory(event)
        if remembered not in known and not (event.doubtful and remembered in here):
            found.append(event)
        here.add(remembered)
    return found


def memory(event: Received) -> Memory:
    """What is remembered of an event: its stream, since senders choose ids, and its id's digits; of an id that is no UUID, a digest's."""
    id_ = event.message_id
    if _UUID.fullmatch(id_):
        return event.stream.name, id_.replace("-", "")
    return event.stream.name, md5(id_.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
