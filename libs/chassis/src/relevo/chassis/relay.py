"""The relay: publishes outbox rows, in order, exactly once in the stream.

A lane is one partition of one stream, as this service alone writes it. The process that holds a partition's lease
publishes its lanes: up to 500 rows in a JetStream atomic batch, a single row as a plain publish (a batch of one costs
eight times as much). The first message of each lane names the fence that whoever fills the lane put into the stream when it took
over, so a late relay is refused by the broker; safety rests on no deduplication window. After a take-over, a
reconnection or any refusal the rows are reconciled with the stream, behind a new fence, before anything is published; what
was written for one connection never reaches the next.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import text

from relevo.chassis import telemetry
from relevo.chassis.bus import Bus, BusError, NoStream
from relevo.chassis.capacity import FullStreams, says_full
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, described, is_transient
from relevo.chassis.pacing import pause
from relevo.chassis.reconcile import MARK, End, Lane, LaneRefused, Reconciler, marks
from relevo.chassis.wire import lines_of
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import published_by
from relevo.contracts.grants import poke_subject
from relevo.contracts.streams import BY_NAME, Stream

log = structlog.get_logger("relevo.relay")

MAX_ROWS = 500
MAX_BYTES = 8 * 1024 * 1024
POLL = 2.0
"""Seconds; only the safety net behind wake and poke."""
ACK_TIMEOUT = 10.0
WATCH = 10.0
"""Seconds between two looks whether a stream is still the one that we know."""
REST = 5.0
"""Seconds until a refused lane is looked at again."""

_WAITING = text(
    """
    select id, created_at, stream, p, cast(event_id as text) as event_id, subject, headers, body
    from outbox where stream_seq is null and p = any(cast(:held as smallint[]))
      and (cast(:refused as text[]) = '{}' or stream || '/' || p <> all(cast(:refused as text[])))
    order by id limit :limit
    """
)
_PENDING = text(
    "select count(*) as pending, extract(epoch from now() - min(created_at)) as oldest from outbox where stream_seq is null"
)


@dataclass(slots=True)
class _Row:
    id: int
    created_at: datetime
    stream: Stream
    p: int
    event_id: str
    subject: str
    headers: str
    body: bytes

    @property
    def lane(self) -> Lane:
        return self.stream.name, self.p


class Relay:
    """One relay a process, for all lanes that it holds."""

    def __init__(self, bus: Bus, database: Database, stirred: asyncio.Event, *, urgent: bool = False) -> None:
        """``stirred`` is set when something waits; ``urgent``: see `pause`."""
        self._bus = bus
        self._database = database
        self._streams = tuple(published_by(bus.service))
        self._held: set[int] = set()
        self._fences: dict[Lane, int] = {}
        self._refused: dict[Lane, tuple[str, float]] = {}
        self._full = FullStreams(bus.service)
        self._reconciler = Reconciler(bus, database)
        self._unchecked: set[Lane] = set()
        self._seen: dict[str, tuple[str, int, int]] = {}
        self._watched = -WATCH
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = False
        self._foreign: set[int] = set()
        self._published = 0
        self._stirred = stirred
        self._urgent = urgent
        self._oldest: datetime | None = None

    @property
    def refused(self) -> dict[str, str]:
        """Lanes and full streams that wait for a person, with the reason."""
        return {f"{stream}/{p}": reason for (stream, p), (reason, _) in self._refused.items()} | self._full.refused

    def wake(self, partitions: set[int]) -> None:
        """Rows of these partitions have committed here: publish ours, poke whoever holds the others."""
        self._foreign |= partitions - self._held
        self._wake.set()

    async def take(self, p: int) -> None:
        """Begin to publish the lanes of a partition."""
        self._held.add(p)
        self._unchecked |= {(stream.name, p) for stream in self._streams}
        self._wake.set()

    async def put_down(self, p: int) -> None:
        """Stop publishing a partition's lanes; returns when no batch of theirs is under way (bounded)."""
        self._held.discard(p)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5), self._lock:
                pass
        for lane in [lane for lane in self._fences if lane[1] == p]:
            del self._fences[lane]

    def restart(self) -> None:
        """When the connection is gone, and when there is another: trust nothing that was known of the streams."""
        self._fences.clear()
        self._unchecked |= {(stream.name, p) for stream in self._streams for p in self._held}
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def waiting_since(self) -> list[datetime]:
        """When the oldest row that is known to wait was written; rows of refused lanes wait for a person, not for us."""
        return [] if self._oldest is None else [self._oldest]

    async def run(self) -> None:
        """Publish what waits, as it comes, until stopped; then what still waits, once more."""
        await self._bus.nats.subscribe(poke_subject(self._bus.service), cb=self._poked)
        delay = 0.05
        while True:
            began = time.perf_counter()
            try:
                self._published = 0
                drained = await self._once()
                if drained or self._published:  # a round that only reconciled says nothing of the next
                    delay = 0.05
            except Exception as error:  # the database may be away; whatever it is, rows wait safely
                telemetry.RELAY_ERRORS.labels(self._bus.service, "").inc()
                if isinstance(error, BusError) or is_transient(error):
                    log.warning("relay_again", error=described(error))
                else:
                    log.exception("relay_failed")
                self._fences.clear()
                drained = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            if self._stopping and (drained or not self._held):
                return
            if drained:
                took = time.perf_counter() - began
                await asyncio.sleep(pause(self._published, MAX_ROWS, took, urgent=self._urgent))
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
            if not held or not self._bus.nats.is_connected:
                self._oldest = None
                return True
            await self._look_over(held)
            rows = await self._waiting(held)
            self._oldest = None
            if not rows:
                return True
            if await self._reconcile_all({row.lane for row in rows}):
                return False  # rows may have been marked or opened again: look anew
            rows = [row for row in rows if row.lane in self._fences]
            if not rows:
                return True
            self._oldest = rows[0].created_at
            self._stirred.set()
            groups: dict[str, list[_Row]] = {}
            for row in rows:
                groups.setdefault(row.stream.name, []).append(row)
            crash_point("relay.before_publish")
            published: list[tuple[_Row, int]] = []
            failure: BaseException | None = None
            outcomes = await asyncio.gather(
                *(self._publish(group) for group in groups.values()), return_exceptions=True
            )
            for name, outcome in zip(groups, outcomes, strict=True):
                if not isinstance(outcome, BaseException):
                    self._full.accept(name)
                    published += outcome
                elif says_full(outcome):
                    self._full.refuse(name)
                else:
                    failure = outcome
            crash_point("relay.after_publish")
            if published:
                self._published = len(published)
                await self._record(published)
                taken = {row.stream.name for row, _ in published}
                for group in (group for name, group in groups.items() if name in taken):
                    telemetry.RELAYED.labels(self._bus.service, group[0].stream.name).inc(len(group))
                    telemetry.RELAY_BATCH.labels(self._bus.service).observe(len(group))
            crash_point("relay.after_mark")
            if failure:
                raise failure
            if len(rows) == MAX_ROWS:
                return False
            self._oldest = None
            return True

    async def _look_over(self, held: list[int]) -> None:
        """Reconcile lanes in which nothing waits: what a stream lost is published again although nothing follows it."""
        if time.monotonic() - self._watched > WATCH:
            self._watched = time.monotonic()
            await self._watch()
        rested = {lane for lane, (_, at) in self._refused.items() if time.monotonic() - at > REST}
        unchecked = {lane for lane in self._unchecked | rested if lane[1] in held}
        if not unchecked:
            return
        marked = set(await self._reconciler.marked(held))
        await self._reconcile_all(unchecked & marked)
        self._unchecked -= unchecked

    async def _watch(self) -> None:
        """Doubt every lane of a stream that went away, was made anew, ends earlier than it did, or begins after its end."""
        for stream in self._streams:
            try:
                info = await self._bus.stream_info(stream)
                seen = info["created"], info["state"]["first_seq"], info["state"]["last_seq"]
            except NoStream:
                seen = "", 0, 0
            created, _, last = self._seen.get(stream.name, seen)
            self._seen[stream.name] = seen
            if seen[0] != created or seen[2] < last or seen[1] > last > 0:
                lanes = {(stream.name, p) for p in self._held}
                self._unchecked |= lanes
                for lane in lanes:
                    self._fences.pop(lane, None)

    async def _waiting(self, held: list[int]) -> list[_Row]:
        # A refused lane rests a while, so that its rows do not stand before those of the others.
        resting = [f"{stream}/{p}" for (stream, p), (_, at) in self._refused.items() if time.monotonic() - at < REST]
        resting += [f"{stream}/{p}" for stream in self._full.resting() for p in held]
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
                    row.headers,
                    row.body,
                )
            )
        return rows

    async def _publish(self, rows: list[_Row]) -> list[tuple[_Row, int]]:
        """Rows of one stream, all or nothing. Answers each with its sequence in the stream."""
        first_of_lane: set[Lane] = set()
        batch_id = new_id()
        size = len(rows)
        fences: list[dict[str, str]] = []
        for number, row in enumerate(rows, start=1):
            fence: dict[str, str] = {}
            if row.lane not in first_of_lane:
                first_of_lane.add(row.lane)
                fence["Nats-Expected-Last-Subject-Sequence"] = str(self._fences[row.lane])
                fence["Nats-Expected-Last-Subject-Sequence-Subject"] = row.stream.fence(self._bus.service, row.p)
            if size > 1:
                fence["Nats-Batch-Id"] = batch_id
                fence["Nats-Batch-Sequence"] = str(number)
            fences.append(fence)
        if size > 1:
            fences[-1]["Nats-Batch-Commit"] = "1"
        *pieces, last = (
            (row.subject, lines_of(row.headers, fence), row.body) for row, fence in zip(rows, fences, strict=True)
        )
        if pieces:
            await self._bus.wire.publish(pieces[: size // 2])
            crash_point("relay.mid_batch")
            await self._bus.wire.publish(pieces[size // 2 :])
        start = await self._bus.publish(*last, timeout=ACK_TIMEOUT) - size + 1
        return [(row, start + index) for index, row in enumerate(rows)]

    async def _record(self, published: list[tuple[_Row, int]]) -> None:
        ends = {row.lane: (End(row.stream, row.p, row.event_id, row.created_at), seq) for row, seq in published}
        await self._database.single(
            MARK,
            marks([(row.id, row.created_at, seq) for row, seq in published], [ends[lane] for lane in sorted(ends)]),
        )

    async def _reconcile_all(self, lanes: set[Lane]) -> bool:
        """Reconcile the lanes that nothing is known of; tells whether there was one."""
        some = False
        unknown = [lane for lane in lanes if lane not in self._fences]
        for lane in unknown:
            try:
                self._fences[lane] = await self._reconciler.reconcile(BY_NAME[lane[0]], lane[1])
                self._refused.pop(lane, None)
                some = True
            except LaneRefused as error:
                log.error(  # noqa: TRY400  (the reason says it all)
                    "lane_refused", lane=f"{lane[0]}/{lane[1]}", reason=str(error)
                )
                self._refused[lane] = (str(error), time.monotonic())
        return some

    async def measure(self) -> None:
        """Refresh the gauges of what waits."""
        row = (await self._database.single(_PENDING)).one()
        telemetry.OUTBOX_PENDING.labels(self._bus.service).set(row.pending)
        telemetry.OUTBOX_OLDEST.labels(self._bus.service).set(float(row.oldest or 0))
