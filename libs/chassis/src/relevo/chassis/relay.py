"""The relay: publishes outbox rows, in order, exactly once in the stream.

A lane is one partition of one stream, as this service alone writes it. The process that holds a partition's lease
publishes its lanes: up to 500 rows in a JetStream atomic batch, a single row as a plain publish (a batch of one costs
eight times as much). The first message of each lane carries the sequence that the lane must end with in the broker, so a
late relay and a rewound stream are refused there; safety rests on no deduplication window. After a take-over, a
reconnection or any refusal the rows are reconciled with the stream before anything is published.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from nats.errors import Error as NatsError
from sqlalchemy import text

from relevo.chassis import telemetry
from relevo.chassis.bus import Bus, BusError
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, described
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import lane_filter, published_by
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.grants import poke_subject
from relevo.contracts.streams import BY_NAME, Stream

log = structlog.get_logger("relevo.relay")

MAX_ROWS = 500
MAX_BYTES = 8 * 1024 * 1024
POLL = 1.0
"""Seconds; only the safety net behind wake and poke."""
ACK_TIMEOUT = 10.0
REST = 5.0
"""Seconds until a refused lane is looked at again."""

Lane = tuple[str, int]

_WAITING = text(
    """
    select id, created_at, stream, p, cast(event_id as text) as event_id, subject, headers, body
    from outbox where stream_seq is null and p = any(cast(:held as smallint[]))
      and (cast(:refused as text[]) = '{}' or stream || '/' || p <> all(cast(:refused as text[])))
    order by id limit :limit
    """
)
_MARK = text(
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
_PENDING = text(
    "select count(*) as pending, extract(epoch from now() - min(created_at)) as oldest from outbox where stream_seq is null"
)


class LaneRefused(Exception):
    """Rows and stream do not agree in a way that a machine may mend; a person must look."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    created_at: datetime
    stream: Stream
    p: int
    event_id: str
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def lane(self) -> Lane:
        return self.stream.name, self.p


@dataclass(frozen=True, slots=True)
class _End:
    """The last message of a lane."""

    stream: Stream
    p: int
    event_id: str
    created_at: datetime


def _marks(rows: Sequence[tuple[int, datetime, int]], ends: Sequence[tuple[_Row | _End, int]]) -> dict[str, Any]:
    """The values of _MARK: rows (id, day, sequence) that are stored, and where their lanes end now."""
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


class Relay:
    """One relay a process, for all lanes that it holds."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._streams = tuple(published_by(bus.service))
        self._held: set[int] = set()
        self._expected: dict[Lane, int] = {}
        self._refused: dict[Lane, tuple[str, float]] = {}
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = False
        self._foreign: set[int] = set()

    @property
    def refused(self) -> dict[str, str]:
        """Lanes that wait for a person, with the reason."""
        return {f"{stream}/{p}": reason for (stream, p), (reason, _) in self._refused.items()}

    def wake(self, partitions: set[int]) -> None:
        """Rows of these partitions have committed here: publish ours, poke whoever holds the others."""
        self._foreign |= partitions - self._held
        self._wake.set()

    async def take(self, p: int) -> None:
        """Begin to publish the lanes of a partition."""
        self._held.add(p)
        self._wake.set()

    async def put_down(self, p: int) -> None:
        """Stop publishing a partition's lanes; returns when no batch of theirs is under way (bounded)."""
        self._held.discard(p)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5), self._lock:
                pass
        for lane in [lane for lane in self._expected if lane[1] == p]:
            del self._expected[lane]

    def restart(self) -> None:
        """After a reconnection: trust nothing that was known of the streams."""
        self._expected.clear()
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish what waits, as it comes, until stopped; then what still waits, once more."""
        await self._bus.nats.subscribe(poke_subject(self._bus.service), cb=self._poked)
        delay = 0.05
        while True:
            try:
                drained = await self._once()
                delay = 0.05
            except (BusError, NatsError, TimeoutError, OSError) as error:
                telemetry.RELAY_ERRORS.labels(self._bus.service, "").inc()
                log.warning("relay_again", error=described(error))
                self._expected.clear()
                drained = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            except Exception:  # the database may be away; whatever it is, rows wait safely
                telemetry.RELAY_ERRORS.labels(self._bus.service, "").inc()
                log.exception("relay_failed")
                self._expected.clear()
                drained = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            if self._stopping and (drained or not self._held):
                return
            if drained:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._wake.wait()
            self._wake.clear()

    async def _poked(self, _: Any) -> None:
        self._wake.set()

    async def _poke(self) -> None:
        if self._foreign:
            self._foreign = set()
            await self._bus.nats.publish(poke_subject(self._bus.service), b"")

    async def _once(self) -> bool:
        """One round; tells whether nothing is left to do."""
        await self._poke()
        async with self._lock:
            held = sorted(self._held)
            if not held:
                return True
            rows = await self._waiting(held)
            if not rows:
                return True
            if await self._reconcile_all({row.lane for row in rows}):
                return False  # rows may have been marked or opened again: look anew
            rows = [row for row in rows if row.lane in self._expected]
            if not rows:
                return True
            groups: dict[str, list[_Row]] = {}
            for row in rows:
                groups.setdefault(row.stream.name, []).append(row)
            crash_point("relay.before_publish")
            published: list[tuple[_Row, int]] = []
            failure: BaseException | None = None
            outcomes = await asyncio.gather(
                *(self._publish(group) for group in groups.values()), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    failure = outcome
                else:
                    published += outcome
            crash_point("relay.after_publish")
            if published:
                await self._record(published)
                for group in groups.values():
                    telemetry.RELAYED.labels(self._bus.service, group[0].stream.name).inc(len(group))
                    telemetry.RELAY_BATCH.labels(self._bus.service).observe(len(group))
            crash_point("relay.after_mark")
            if failure:
                raise failure
            return len(rows) < MAX_ROWS and not self._wake.is_set()

    async def _waiting(self, held: list[int]) -> list[_Row]:
        # A refused lane rests a while, so that its rows do not stand before those of the others.
        resting = [f"{stream}/{p}" for (stream, p), (_, at) in self._refused.items() if time.monotonic() - at < REST]
        found = await self._database.single(_WAITING, {"held": held, "refused": resting, "limit": MAX_ROWS})
        rows: list[_Row] = []
        size = 0
        for row in found:
            size += len(row.body)
            if rows and size > MAX_BYTES:
                break
            rows.append(
                _Row(
                    row.id,
                    row.created_at,
                    BY_NAME[row.stream],
                    row.p,
                    row.event_id,
                    row.subject,
                    json.loads(row.headers),
                    row.body,
                )
            )
        return rows

    async def _publish(self, rows: list[_Row]) -> list[tuple[_Row, int]]:
        """Rows of one stream, all or nothing. Answers each with its sequence in the stream."""
        first_of_lane: set[Lane] = set()
        batch_id = new_id()
        size = len(rows)
        for number, row in enumerate(rows, start=1):
            headers = row.headers
            if row.lane not in first_of_lane:
                first_of_lane.add(row.lane)
                headers["Nats-Expected-Last-Subject-Sequence"] = str(self._expected[row.lane])
                headers["Nats-Expected-Last-Subject-Sequence-Subject"] = lane_filter(
                    self._bus.service, row.stream, row.p
                )
            if size > 1:
                headers["Nats-Batch-Id"] = batch_id
                headers["Nats-Batch-Sequence"] = str(number)
            if number < size:
                await self._bus.nats.publish(row.subject, row.body, headers=headers)
                if number == size // 2:
                    crash_point("relay.mid_batch")
        last = rows[-1]
        if size > 1:
            last.headers["Nats-Batch-Commit"] = "1"
        reply = await self._bus.nats.request(last.subject, last.body, timeout=ACK_TIMEOUT, headers=last.headers)
        ack = json.loads(reply.data)
        if error := ack.get("error"):
            raise BusError(f"{last.stream.name}: {error.get('description')}", error.get("err_code", 0))
        if ack.get("duplicate"):
            raise BusError(f"{last.stream.name}: {last.event_id} is in the stream already", 0)
        start = ack["seq"] - size + 1
        published = [(row, start + index) for index, row in enumerate(rows)]
        for row, seq in published:
            self._expected[row.lane] = seq
        return published

    async def _record(self, published: list[tuple[_Row, int]]) -> None:
        ends = {row.lane: (row, seq) for row, seq in published}
        await self._database.single(
            _MARK,
            _marks([(row.id, row.created_at, seq) for row, seq in published], [ends[lane] for lane in sorted(ends)]),
        )

    async def _reconcile_all(self, lanes: set[Lane]) -> bool:
        """Reconcile the lanes that nothing is known of; tells whether there was one."""
        some = False
        unknown = [lane for lane in lanes if lane not in self._expected]
        for lane in unknown:
            try:
                self._expected[lane] = await self._reconcile(BY_NAME[lane[0]], lane[1])
                self._refused.pop(lane, None)
                some = True
            except LaneRefused as error:
                log.error(  # noqa: TRY400  (the reason says it all)
                    "lane_refused", lane=f"{lane[0]}/{lane[1]}", reason=str(error)
                )
                self._refused[lane] = (str(error), time.monotonic())
        return some

    async def _reconcile(self, stream: Stream, p: int) -> int:
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
                _MARK,
                _marks(
                    [(row.id, row.created_at, message.seq)], [(_End(stream, p, event_id, row.created_at), message.seq)]
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
            await tx.execute(_MARK, _marks([], [(_End(stream, p, last_event, row.created_at), last_seq)]))
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

    async def measure(self) -> None:
        """Refresh the gauges of what waits."""
        row = (await self._database.single(_PENDING)).one()
        telemetry.OUTBOX_PENDING.labels(self._bus.service).set(row.pending)
        telemetry.OUTBOX_OLDEST.labels(self._bus.service).set(float(row.oldest or 0))
