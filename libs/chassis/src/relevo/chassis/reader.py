"""The partition reader: events in order, effects exactly once.

The position of every (stream, partition) is a row in the consumer's own database. A batch is one transaction, and its
first statement compares and sets the positions: if they moved, somebody else has handled the events, and nothing is
done. So effects happen once whatever is redelivered, and a replica that wakes up late can do no harm.

Each held partition has a feed; a batch is whatever waits in all of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from relevo.chassis import dead_letters, telemetry
from relevo.chassis.bus import Bus
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described, is_transient
from relevo.chassis.dropping import Gone
from relevo.chassis.feed import HEARTBEAT, Feed
from relevo.chassis.history import History
from relevo.chassis.pacing import pause
from relevo.chassis.positions import PositionMoved, Positions, unhandled
from relevo.chassis.received import Received
from relevo.contracts import streams
from relevo.contracts.catalogue import read_by
from relevo.contracts.envelope import MalformedEnvelope
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.reader")

MAX_BATCH = 500
ATTEMPTS = 3
"""How often an event that fails alone is tried before it becomes a dead letter."""
TOGETHER = 2 * HEARTBEAT
"""Seconds within which all feeds notice one cause of silence: each looks every HEARTBEAT, and last heard up to one ago."""
_NAMED = 5


Handler = Callable[[Sequence[Received], Tx], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Binds a handler to a stream: it gets every message of the stream that the catalogue says the service wants."""

    stream: Stream
    handler: Handler


@dataclass(frozen=True, slots=True)
class _Source:
    """A stream that is read: its handlers, and the types that they are given; None: whatever comes."""

    stream: Stream
    handlers: tuple[Handler, ...]
    types: frozenset[str] | None

    def wanted(self, events: Sequence[Received]) -> Sequence[Received]:
        """Those of its events that are for the handlers. Raises MalformedEnvelope."""
        if self.types is None:
            return events
        return [event for event in events if event.type in self.types or (not event.type and event.readable)]


Batch = list[tuple[Feed, list[Received]]]


class Reader:
    """Reads all streams of one service: the held partitions feed one worker, which handles what waits as one batch.

    One worker for all streams, as a transaction costs the same whatever is in it: a service that reads four streams would
    make four of them where one does. Streams are handled in the order of ``handlers``.
    """

    def __init__(
        self,
        bus: Bus,
        database: Database,
        handlers: Mapping[Stream, Sequence[Handler]],
        history: History,
        stirred: asyncio.Event,
        *,
        gone: Gone | None = None,
        urgent: bool = False,
    ) -> None:
        """``stirred`` is set when something waits; what is of accounts that are ``gone`` is passed over; ``urgent``: see `pause`."""
        self.bus = bus
        self._gone = gone or Gone()
        self.database = database
        self.positions = Positions(database)
        self.refused: dict[str, str] = {}
        self._history = history
        self._arrived = asyncio.Event()
        self._stirred = stirred
        self._urgent = urgent
        self._sources = [
            _Source(
                stream,
                tuple(found),
                None
                if stream is streams.INBOUND
                else frozenset(message.name for message in read_by(bus.service)[stream]),
            )
            for stream, found in handlers.items()
        ]
        self._feeds: dict[int, list[Feed]] = {}
        self._silent: dict[str, set[int]] = {}
        self._turn = asyncio.Lock()
        self._stopping = False

    async def prepare(self) -> None:
        """Make the position rows that are missing."""
        await self.positions.make([source.stream for source in self._sources])

    def take(self, p: int) -> None:
        """Begin to work a partition of all streams."""
        self._feeds[p] = [
            Feed(
                self.bus,
                source.stream,
                p,
                positions=self.positions,
                arrived=self._arrived,
                refused=self.refused,
                silent=self._fell_silent,
                history=self._history,
            )
            for source in self._sources
            if p < source.stream.partitions
        ]
        for feed in self._feeds[p]:
            feed.open()

    async def put_down(self, p: int) -> None:
        """Stop working a partition; returns when its last batch has ended (bounded: the position guards the rest)."""
        await asyncio.gather(*(feed.close() for feed in self._feeds.pop(p, [])))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5), self._turn:
                pass

    def restart(self) -> None:
        """After a reconnection: every consumer may be gone."""
        for feed in self._held():
            feed.restart()

    def stop(self) -> None:
        self._stopping = True
        self._arrived.set()
        self._tell_silence()

    def measure(self) -> None:
        """Refresh the lag gauges of the held partitions."""
        for feed in self._held():
            telemetry.LAG.labels(self.bus.service, feed.stream.name, str(feed.p)).set(feed.backlog)

    @property
    def backlog(self) -> int:
        """How many messages are known to wait, here and in the streams."""
        return sum(feed.backlog for feed in self._held())

    def waiting_since(self) -> list[datetime]:
        """When the first message that waits in each feed was stored."""
        return [feed.waiting[0].time for feed in self._held() if feed.waiting]

    async def run(self) -> None:
        """Handle batches until stopped."""
        while not self._stopping:
            await self._arrived.wait()
            self._arrived.clear()
            self._stirred.set()
            while not self._stopping and (batch := self._gather()):
                began = time.perf_counter()
                async with self._turn:
                    await self._handle(batch)
                for feed, _ in batch:
                    await feed.more()
                size = sum(len(events) for _, events in batch)
                await asyncio.sleep(pause(size, MAX_BATCH, time.perf_counter() - began, urgent=self._urgent))

    def _fell_silent(self, feed: Feed) -> None:
        """What stops one feed mostly stops all: those that fall silent within TOGETHER are said in one line a stream."""
        if not self._silent:
            asyncio.get_running_loop().call_later(TOGETHER, self._tell_silence)
        self._silent.setdefault(feed.stream.name, set()).add(feed.p)

    def _tell_silence(self) -> None:
        silent, self._silent = self._silent, {}
        for stream, partitions in silent.items():
            log.warning("feed_silent", stream=stream, partitions=len(partitions), first=sorted(partitions)[:_NAMED])

    def _held(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    def _gather(self) -> Batch:
        """A fair share of what waits in every held partition, MAX_BATCH at most."""
        ready = [feed for feed in self._held() if feed.waiting and feed.live]
        if not ready:
            return []
        share = max(MAX_BATCH // len(ready), 1)
        return [(feed, [feed.waiting.popleft() for _ in range(min(share, len(feed.waiting)))]) for feed in ready]

    async def _handle(self, batch: Batch) -> None:
        """Handle a batch; on an error that is its own, partition by partition, then event by event."""
        delay = 0.05
        attempts = 0
        while True:
            batch = [(feed, events) for feed, events in batch if feed.live]
            if not batch or self._stopping:
                for feed, _ in batch:
                    feed.restart()
                return
            attempts += 1
            try:
                await self._transaction(batch)
                return
            except PositionMoved as moved:
                for feed, _ in batch:
                    if (feed.stream.name, feed.p) in moved.partitions:
                        telemetry.CAS_LOST.labels(self.bus.service, feed.stream.name).inc()
                        feed.restart()
                continue  # with what is left of the batch
            except Exception as error:  # noqa: BLE001  (whatever a handler raises must not stop the line)
                if is_transient(error):
                    log.warning(
                        "batch_again", streams=sorted({feed.stream.name for feed, _ in batch}), error=described(error)
                    )
                elif len(batch) > 1:
                    for one in batch:
                        await self._handle([one])
                    return
                elif len(batch[0][1]) > 1:
                    feed, events = batch[0]
                    for event in events:
                        await self._handle([(feed, [event])])
                    return
                elif attempts >= ATTEMPTS:
                    await self._give_up(*batch[0], error, attempts)
                    return
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _transaction(self, batch: Batch) -> None:
        started = time.perf_counter()
        received = [event for _, events in batch for event in events]
        doubtful = [event for event in received if event.doubtful]
        crash_point("reader.before_transaction")
        async with self.database.begin(*{event.account for event in received}) as tx:
            # Read before the positions are compared: they say that nobody has handled anything since.
            known = await self.positions.known(tx, doubtful) if doubtful else frozenset()
            await self.positions.move(tx, [events for _, events in batch], known)
            crash_point("reader.after_position")
            fresh = self._gone.without(unhandled(received, known) if doubtful else received)
            handled = _by_stream(fresh)
            for source in self._sources:
                if wanted := source.wanted(handled.get(source.stream.name, ())):
                    for handler in source.handlers:
                        await handler(wanted, tx)
            crash_point("reader.after_handler")
        crash_point("reader.after_commit")
        for stream, came in _by_stream(received).items():
            fresh_here = len(handled.get(stream, ()))
            telemetry.EVENTS.labels(self.bus.service, stream, "handled").inc(fresh_here)
            telemetry.EVENTS.labels(self.bus.service, stream, "known").inc(len(came) - fresh_here)
        telemetry.BATCH_SIZE.labels(self.bus.service).observe(len(received))
        telemetry.HANDLE_SECONDS.labels(self.bus.service).observe(time.perf_counter() - started)

    async def _give_up(self, feed: Feed, events: list[Received], error: Exception, attempts: int) -> None:
        """Put one event aside and move on. Tried again for as long as the database is away."""
        event = events[0]
        reason = "envelope" if isinstance(error, MalformedEnvelope) else "decode" if _is_decoding(error) else "handler"
        while feed.live and not self._stopping:
            try:
                async with self.database.begin(event.account) as tx:
                    await self.positions.move(tx, [events])
                    await dead_letters.keep(
                        tx,
                        event,
                        stream=feed.stream.name,
                        p=feed.p,
                        account=event.account,
                        reason=reason,
                        error=described(error),
                        attempts=attempts,
                    )
                return
            except PositionMoved:
                feed.restart()
                return
            except Exception as again:  # noqa: BLE001  (nothing but the database can be at fault here)
                log.warning("dead_letter_again", stream=feed.stream.name, error=described(again))
                await asyncio.sleep(0.5)


def _by_stream(events: Sequence[Received]) -> dict[str, list[Received]]:
    found: dict[str, list[Received]] = {}
    for event in events:
        found.setdefault(event.stream.name, []).append(event)
    return found


def _is_decoding(error: Exception) -> bool:
    return isinstance(error, ValueError) and type(error).__name__ in {"ValidationError", "UnknownType"}
