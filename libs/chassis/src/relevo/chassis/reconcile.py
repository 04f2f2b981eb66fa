"""Rows and stream made to agree, lane by lane, before the relay publishes.

What the broker acknowledged last to this service is a row per lane, its mark. A lane of the stream that ends beyond its
mark holds rows that were published but not recorded; one that ends before it lost its tail, and the rows after
its end wait again. They go out with a header that says so (AGAIN), by which readers know what may have been handled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text

from relevo.chassis import dropping, telemetry, topology
from relevo.chassis.bus import Bus, NoStream, StoredMessage, parse_time
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database
from relevo.contracts.base import now
from relevo.contracts.catalogue import lane_filter
from relevo.contracts.envelope import AGAIN, ERASED, MESSAGE_ID
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.reconcile")

Lane = tuple[str, int]
"""A stream's name, and a partition."""

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
    on conflict (stream, p) do update
        set seq = excluded.seq, event_id = excluded.event_id, at = excluded.at, dropped = false
    """
)
_LANE = text(
    "select seq, cast(event_id as text) as event_id, at, dropped from relay_mark where stream = :stream and p = :p"
)
_BY_EVENT = text(
    "select id, created_at, p, stream_seq from outbox where event_id = cast(:event_id as uuid) and stream = :stream"
)
_MARKED = text("select stream, p from relay_mark where p = any(cast(:held as smallint[])) order by stream, p")
_REOPEN = text(
    f"""
    update outbox set stream_seq = null,
        headers = case when headers like '%"{AGAIN}"%' then headers else '{{"{AGAIN}":"1",' || substr(headers, 2) end
    where stream = :stream and p = :p and (stream_seq > :after or stream_seq is null) and created_at >= :since
    """
)
# What was deleted from the stream since somebody was erased, or an account dropped, rows and all: the lane's last message,
# and nothing else behind its end.
_ONLY_ERASED = text(
    f"""
    select (cast(:dropped as boolean) or exists (
        select 1 from outbox where event_id = cast(:event_id as uuid) and stream = :stream and headers like '%"{ERASED}"%'
    )) and not exists (
        select 1 from outbox where stream = :stream and p = :p and stream_seq > :after and stream_seq <= :through
            and headers not like '%"{ERASED}"%'
    )
    """
)
_UNMARK = text("update relay_mark set seq = 0 where stream = :stream and p = :p")
_PATIENCE = text("set local statement_timeout = '15min'")
_ALWAYS = datetime.fromtimestamp(0, UTC)


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

    async def marked(self, held: Sequence[int]) -> list[Lane]:
        """The lanes of these partitions in which something was published."""
        return [(row.stream, row.p) for row in await self._database.single(_MARKED, {"held": list(held)})]

    async def reconcile(self, stream: Stream, p: int) -> int:
        """Make rows and stream agree, and shut out whoever filled the lane before; answers the sequence of our fence.

        Ahead of what was recorded: rows that are stored already are marked. Behind it: the stream lost its tail, and the rows
        after its end wait again. Raises LaneRefused when the stream holds what is not ours, or nothing where it
        should hold something and nobody has allowed to fill it again; BusError, TimeoutError, OSError.

        Whatever names an older fence is refused from ours on, so the lane's end, looked at once more behind it, stays
        the end until we publish.
        """
        while True:
            end = await self._agree(stream, p)
            fence = await self._bus.publish(stream.fence(self._bus.service, p))
            last = await self._bus.last_message(stream, lane_filter(self._bus.service, stream, p))
            if (last.seq if last else 0) == end:
                return fence

    async def _agree(self, stream: Stream, p: int) -> int:
        subject = lane_filter(self._bus.service, stream, p)
        mark = (await self._database.single(_LANE, {"stream": stream.name, "p": p})).one_or_none()
        recorded = mark.seq if mark else 0
        try:
            last = await self._bus.last_message(stream, subject)
            if (last is None or last.seq < recorded) and recorded and await self._only_erased(stream, p, mark, last):
                return last.seq if last else 0
            if last is None and recorded:
                await self._refill(stream, p, subject, mark)
        except NoStream:
            raise LaneRefused(
                f"the broker has no stream {stream.name}: restore its store, or run `relevo topology heal`, after which "
                "this service publishes again what its outbox holds"
            ) from None
        if last is None:
            return 0
        if last.seq > recorded:
            await self._adopt(stream, p, subject, recorded + 1)
        elif last.seq < recorded or last.headers.get(MESSAGE_ID) != mark.event_id:
            await self._reopen_tail(stream, p, subject, recorded, last)
        return last.seq

    async def _only_erased(self, stream: Stream, p: int, mark: Any, last: StoredMessage | None) -> bool:
        """Whether a lane ends before its mark since its owner deleted what was there, and the stream did not go back."""
        info = await self._bus.stream_info(stream)
        state = info["state"]
        if state["last_seq"] < mark.seq or parse_time(info["created"]) > mark.at:
            return False
        given = {
            "event_id": mark.event_id,
            "dropped": mark.dropped,
            "stream": stream.name,
            "p": p,
            "after": max(last.seq if last else 0, state["first_seq"] - 1),
            "through": mark.seq,
        }
        return bool((await self._database.single(_ONLY_ERASED, given)).scalar_one())

    async def _refill(self, stream: Stream, p: int, subject: str, mark: Any) -> None:
        """The stream holds nothing of a lane in which something was stored: have it published again, if that may be.

        It may when the stream as a whole went back to an earlier end, or when an operator has said so for everything up
        to a sequence (`relevo topology heal`). What was let go of by age is no loss. Raises LaneRefused.
        """
        info = await self._bus.stream_info(stream)
        # The stream's own age: an operator may have chosen less than the catalogue.
        if now() - mark.at >= topology.Fill.of(info).age - timedelta(hours=1):
            return
        state = info["state"]
        if parse_time(info["created"]) <= mark.at and (
            (state["messages"] > 0 and state["last_seq"] < mark.seq)
            or await self._bus.message_at(stream, mark.seq) is not None  # another's, at a number that is given anew
        ):
            await self._reopen(stream, p, after=state["first_seq"] - 1, recorded=mark.seq, found=0)
            return
        allowed = topology.Healing.of(info["config"])
        if mark.seq > allowed.through:
            raise LaneRefused(
                f"{stream.name} holds nothing of {subject}, but {mark.seq} was stored on {mark.at:%Y-%m-%d %H:%M}; the "
                "stream was emptied or replaced: restore the broker's store, or run `relevo topology heal`, after which "
                "this service publishes again what its outbox holds"
            )
        await self._reopen(stream, p, after=-1, since=allowed.since, recorded=mark.seq, found=0)

    async def _adopt(self, stream: Stream, p: int, subject: str, start: int) -> None:
        """Mark rows that the stream holds already: we died between publishing and recording."""
        seq = start
        while (message := await self._bus.next_message(stream, seq, subject)) is not None:
            event_id = message.headers.get(MESSAGE_ID, "")
            row = await self._row_of(stream, event_id)
            if row is None and await self._is_gone(stream, message):
                seq = message.seq + 1
                continue
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

    async def _reopen_tail(self, stream: Stream, p: int, subject: str, recorded: int, last: StoredMessage) -> None:
        """Have what the lane held after ``last`` published again, in order, before anything newer."""
        event_id = last.headers.get(MESSAGE_ID, "")
        row = await self._row_of(stream, event_id)
        if row is None and await self._is_gone(stream, last):
            end = End(stream, p, event_id, last.time)
            await self._reopen(stream, p, after=last.seq, recorded=recorded, found=last.seq, end=end)
            return
        if row is None:
            raise LaneRefused(
                f"the last message of {stream.name}/{p} ({event_id or 'no id'}) is not in the outbox of this service"
            )
        if row.stream_seq == last.seq:
            end = End(stream, p, event_id, row.created_at)
            await self._reopen(stream, p, after=last.seq, recorded=recorded, found=last.seq, end=end)
        else:  # copied by other means than the broker's own, under other numbers: compare message by message
            await self._reopen(stream, p, after=-1, recorded=recorded, found=last.seq)
            await self._adopt(stream, p, subject, 1)

    async def _reopen(
        self,
        stream: Stream,
        p: int,
        *,
        after: int,
        recorded: int,
        found: int,
        since: datetime = _ALWAYS,
        end: End | None = None,
    ) -> None:
        """Let rows wait again that were stored beyond ``after``, and were written at or after ``since``.

        All that waits then says so when it goes out: one that was stored and never recorded is among them.
        """
        async with self._database.begin() as tx:
            await tx.execute(_PATIENCE)
            result = await tx.execute(_REOPEN, {"stream": stream.name, "p": p, "after": after, "since": since})
            if end:
                await tx.execute(MARK, marks([], [(end, found)]))
            else:
                await tx.execute(_UNMARK, {"stream": stream.name, "p": p})
            crash_point("reconcile.before_commit")
        crash_point("reconcile.after_commit")
        telemetry.REOPENED.labels(self._bus.service, stream.name).inc(result.rowcount)
        log.error(
            "stream_lost_messages",
            lane=f"{stream.name}/{p}",
            recorded=recorded,
            found=found,
            again=result.rowcount,
            mend="none is needed: this service publishes them again, in order, before anything newer",
        )

    async def _is_gone(self, stream: Stream, message: StoredMessage) -> bool:
        """Whether a message is of an account that was dropped, rows and all; nobody handles it.

        It is about to be deleted, or came back with a copy of the stream.
        """
        return await dropping.is_gone(self._database, stream.account_in(message.subject, stored=True))

    async def _row_of(self, stream: Stream, event_id: str) -> Any:
        if not event_id:
            return None
        return (await self._database.single(_BY_EVENT, {"event_id": event_id, "stream": stream.name})).one_or_none()
