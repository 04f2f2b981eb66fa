"""Rows and stream made to agree, lane by lane, before the relay publishes.

What the broker acknowledged last to this service is a row per lane, its mark. A lane of the stream that ends beyond its
mark holds rows that were published but not recorded; one that ends before it lost its tail, and the rows after
its end wait again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text

from relevo.chassis.bus import Bus
from relevo.chassis.database import Database
from relevo.contracts.base import now
from relevo.contracts.catalogue import lane_filter
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.reconcile")

MARK = text(
    """
    with marked as (
        update outbox o set stream_seq = n.seq
        from unnest(cast(:ids as bigint[]), cast(:created as timestamptz[]), cast(:seqs as bigint[]))
            as n(id, created_at, seq)
        where o.id = n.id and o.created_at = n.created_at
    )
    insert into relay_mark (stream, p, seq, event_id, at)
    select * from unnest(cast(:streams as text[]), cast(:ps as smallint[]), cast(:lasts as bigint[]),
                         cast(:event_ids as uuid[]), cast(:ats as timestamptz[]))
    on conflict (stream, p) do update set seq = excluded.seq, event_id = excluded.event_id, at = excluded.at
    """
)
_LANE = text("select seq, cast(event_id as text) as event_id, at from relay_mark where stream = :stream and p = :p")
_BY_EVENT = text(
    "select id, created_at, p, stream_seq from outbox where event_id = cast(:event_id as uuid) and stream = :stream"
)
_REOPEN = text(
    """
    update outbox set stream_seq = null
    where stream = :stream and p = :p and stream_seq is not null and id > :id
    """
)


class LaneRefused(Exception):
    """Rows and stream do not agree in a way that a machine may mend; a person must look."""


@dataclass(frozen=True, slots=True)
class End:
    """The last message of a lane."""

    stream: Stream
    p: int
    event_id: str
    created_at: datetime


def marks(rows: Sequence[tuple[int, datetime, int]], ends: Sequence[tuple[End, int]]) -> dict[str, Any]:
    """The values of MARK: rows (id, day, sequence) that are stored, and where their lanes end now."""
    return {
        "ids": [row_id for row_id, _, _ in rows],
        "created": [created_at for _, created_at, _ in rows],
        "seqs": [seq for _, _, seq in rows],
        "streams": [end.stream.name for end, _ in ends],
        "ps": [end.p for end, _ in ends],
        "lasts": [seq for _, seq in ends],
        "event_ids": [end.event_id for end, _ in ends],
        "ats": [end.created_at for end, _ in ends],
    }


class Reconciler:
    """Compares the lanes of one service with its streams."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database

    async def reconcile(self, stream: Stream, p: int) -> int:
        """Make rows and stream agree; answers the last sequence of the lane in the stream.

        Ahead of what was recorded: rows that are stored already are marked. Behind it: the stream lost its tail, and the rows
        after its end wait again. Raises LaneRefused when the stream holds what is not ours, or nothing where it
        should hold something.
        """
        subject = lane_filter(self._bus.service, stream, p)
        mark = (await self._database.single(_LANE, {"stream": stream.name, "p": p})).one_or_none()
        last = await self._bus.last_message(stream, subject)
        if last is None:
            if mark is not None and now() - mark.at < stream.max_age - timedelta(hours=1):
                raise LaneRefused(
                    f"{stream.name} holds nothing of {subject}, but {mark.seq} was stored on {mark.at:%Y-%m-%d %H:%M}; "
                    "the stream was emptied or replaced: restore it, or run `relevo topology heal`"
                )
            return 0
        recorded = mark.seq if mark else 0
        if last.seq > recorded:
            await self._adopt(stream, p, subject, recorded + 1)
        elif last.seq < recorded or (mark and last.headers.get(MESSAGE_ID) != mark.event_id):
            await self._reopen(stream, p, last.headers.get(MESSAGE_ID, ""), recorded, last.seq)
        return last.seq

    async def _adopt(self, stream: Stream, p: int, subject: str, start: int) -> None:
        """Mark rows that the stream holds already: we died between publishing and recording."""
        seq = start
        while (message := await self._bus.next_message(stream, seq, subject)) is not None:
            event_id = message.headers.get(MESSAGE_ID, "")
            row = await self._row_of(stream, event_id)
            if row is None:
                raise LaneRefused(
                    f"{stream.name} holds message {message.seq} ({event_id or 'no id'}) that this service never wrote"
                )
            await self._database.single(
                MARK,
                marks(
                    [(row.id, row.created_at, message.seq)], [(End(stream, p, event_id, row.created_at), message.seq)]
                ),
            )
            seq = message.seq + 1

    async def _reopen(self, stream: Stream, p: int, last_event: str, recorded: int, last_seq: int) -> None:
        """The stream lost its tail: publish it again, in order, before anything newer."""
        row = await self._row_of(stream, last_event)
        if row is None:
            raise LaneRefused(
                f"the last message of {stream.name}/{p} ({last_event or 'no id'}) is not in the outbox of this service"
            )
        async with self._database.begin() as tx:
            result = await tx.execute(_REOPEN, {"stream": stream.name, "p": p, "id": row.id})
            await tx.execute(MARK, marks([], [(End(stream, p, last_event, row.created_at), last_seq)]))
        log.error(
            "stream_lost_its_tail",
            lane=f"{stream.name}/{p}",
            recorded=recorded,
            found=last_seq,
            again=result.rowcount,
        )

    async def _row_of(self, stream: Stream, event_id: str) -> Any:
        if not event_id:
            return None
        return (await self._database.single(_BY_EVENT, {"event_id": event_id, "stream": stream.name})).one_or_none()
