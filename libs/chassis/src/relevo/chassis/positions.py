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
    "insert into position (stream, p) select :stream, p from generate_series(0, :count - 1) p on conflict do nothing"
)
_MOVE = text(
    """
    with moved as (
        update position o set seq = n.seq, message_id = n.message_id, at = n.at
        from unnest(cast(:ps as smallint[]), cast(:olds as bigint[]), cast(:rewinds as int[]), cast(:seqs as bigint[]),
                    cast(:ids as text[]), cast(:ats as timestamptz[])) as n(p, old, rewinds, seq, message_id, at)
        where o.stream = :stream and o.p = n.p and o.seq = n.old and o.rewinds = n.rewinds
        returning o.p
    ), remembered as (
        insert into handled (stream, p, sender, recorded, ids)
        select :stream, n.p, n.sender, n.recorded, cast(n.ids as uuid[])
        from unnest(cast(:lane_ps as smallint[]), cast(:lane_senders as text[]), cast(:lane_recorded as timestamptz[]),
                    cast(:lane_ids as text[])) as n(p, sender, recorded, ids)
    )
    select p from moved
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
    select p, sender, max(recorded) as newest from handled
    where stream = :stream and p = any(cast(:ps as smallint[])) group by p, sender
    """
)
_KEPT = text(
    """
    select cast(i.id as text) as id from handled h, unnest(h.ids) as i(id)
    where h.stream = :stream and h.p = any(cast(:ps as smallint[])) and i.id = any(cast(:ids as uuid[]))
    """
)
_PRUNE = text(
    """
    with lane as (
        select p, sender, max(recorded) as newest from handled where stream = :stream group by p, sender
    )
    delete from handled h using lane
    where h.stream = :stream and h.p = lane.p and h.sender = lane.sender
      and h.recorded < lane.newest - cast(:window as interval)
    """
)

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


class PositionMoved(Exception):
    """Somebody else handled these events: this replica's lease is gone, or it reads from an old place."""


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
    """The positions of one service in one stream."""

    def __init__(self, database: Database, stream: Stream) -> None:
        self._database = database
        self._stream = stream

    async def make(self) -> None:
        """Make the rows that are missing."""
        await self._database.single(_MAKE, {"stream": self._stream.name, "count": self._stream.partitions})

    async def read(self, p: int) -> Position:
        row = (await self._database.single(_READ, {"stream": self._stream.name, "p": p})).one()
        return Position(row.seq, row.message_id, row.at, row.checked_until, row.rewinds)

    async def move(self, tx: Tx, runs: Sequence[Sequence[Received]], known: Collection[str] = ()) -> None:
        """Compare and set the positions of the partitions that ``runs`` come from, and keep the ids of what is new.

        Each run is of one partition, in order, from just after the position that it was read under. Raises PositionMoved;
        then the transaction must not commit.
        """
        lanes = self._lanes(event for events in runs for event in events if not known or memory_id(event) not in known)
        moved = await tx.execute(
            _MOVE,
            {
                "stream": self._stream.name,
                "ps": [events[0].partition for events in runs],
                "olds": [events[0].previous for events in runs],
                "rewinds": [events[0].rewinds for events in runs],
                "seqs": [events[-1].seq for events in runs],
                "ids": [events[-1].message_id for events in runs],
                "ats": [events[-1].time for events in runs],
                "lane_ps": [p for p, _ in lanes],
                "lane_senders": [sender for _, sender in lanes],
                "lane_recorded": [max(event.recorded for event in events) for events in lanes.values()],
                "lane_ids": ["{" + ",".join(map(memory_id, events)) + "}" for events in lanes.values()],
            },
        )
        if len(moved) != len(runs):
            raise PositionMoved(self._stream.name)

    async def known(self, tx: Tx, events: Sequence[Received]) -> frozenset[str]:
        """The memory ids of those events that were handled already, at whatever sequence they came then."""
        ps = sorted({event.partition for event in events})
        lanes = await tx.execute(_NEWEST, {"stream": self._stream.name, "ps": ps})
        floor = {(row.p, row.sender): row.newest - WINDOW for row in lanes}
        found: set[str] = set()
        unsure: list[str] = []
        for event in events:
            limit = None if self._stream is INBOUND else floor.get((event.partition, self._sender(event)))
            if limit is not None and event.recorded < limit:
                found.add(memory_id(event))
            else:
                unsure.append(memory_id(event))
        if unsure:
            kept = {
                row.id.replace("-", "")
                for row in await tx.execute(_KEPT, {"stream": self._stream.name, "ps": ps, "ids": unsure})
            }
            found.update(id_ for id_ in unsure if id_.replace("-", "") in kept)
        return frozenset(found)

    async def rewind(
        self, p: int, position: Position, *, to: int, message_id: str, at: datetime, until: datetime
    ) -> bool:
        """Go back from ``position`` to behind the message ``to``; what was stored ``until`` then is checked before it is handled.

        Tells whether it was done: not when the position has moved meanwhile.
        """
        result = await self._database.single(
            _REWIND,
            {
                "stream": self._stream.name,
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
        await self._database.single(_PRUNE, {"stream": self._stream.name, "window": WINDOW})

    def _lanes(self, events: Iterable[Received]) -> dict[tuple[int, str], list[Received]]:
        found: dict[tuple[int, str], list[Received]] = {}
        for event in events:
            found.setdefault((event.partition, self._sender(event)), []).append(event)
        return found

    def _sender(self, event: Received) -> str:
        """Who else than one service fills the partition: only requests have several senders."""
        if not self._stream.name.startswith("CMD_"):
            return ""
        tokens = event.subject.split(".")
        return tokens[3] if len(tokens) > 3 else ""


def unhandled(events: Sequence[Received], known: Collection[str]) -> list[Received]:
    """The events whose effects are still to come: none that is known, and none twice.

    One batch may hold an event from its owner's log and once more from the stream that was filled again.
    """
    found = []
    here: set[str] = set()
    for event in events:
        id_ = memory_id(event)
        if id_ not in known and not (event.doubtful and id_ in here):
            found.append(event)
        here.add(id_)
    return found


def memory_id(event: Received) -> str:
    """The message's id as the memory has it: a UUID; of an id that is none, a digest."""
    id_ = event.message_id
    return (
        id_ if _UUID.fullmatch(id_) else md5(id_.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    )
