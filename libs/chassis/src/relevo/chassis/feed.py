"""What a partition reader is fed by: one held partition of one stream.

The feed has no durable consumer. On taking a partition, and on any doubt (a gap, silence, an error, a reconnection), it
makes its own short-lived one from the position on, after a look whether the stream still continues what was handled.
One long pull is open; what has arrived waits here until the reader takes it into a batch. Far behind the stream's end
it is first made sure that retention has not overtaken the consumer, which would go on behind the gap as if nothing were.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog
from nats.errors import Error as NatsError

from relevo.chassis import telemetry
from relevo.chassis.bus import Bus, BusError, NoStream, StoredMessage
from relevo.chassis.database import described
from relevo.chassis.history import History, HistoryUnavailable
from relevo.chassis.positions import Position, Positions
from relevo.chassis.received import Received
from relevo.chassis.wire import Delivery
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import reader_filter
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.streams import INBOUND, Stream

log = structlog.get_logger("relevo.feed")

PULL = 256
EXPIRES = 30.0
HEARTBEAT = 3.0
SILENCE = 2.5 * HEARTBEAT
_ROOM_SECONDS = 0.05

MARGIN = timedelta(minutes=5)
"""How far before the last handled message a stream that went back is read again; the broker's clock may go back so far."""
EPOCH = datetime.fromtimestamp(0, UTC)
_SAME = timedelta(milliseconds=2)


class StreamRefused(Exception):
    """The stream does not continue what this service has handled; a person must look."""


class Feed:
    """One held partition of one stream: a consumer, an open pull, and what has arrived but is not handled."""

    def __init__(
        self,
        bus: Bus,
        stream: Stream,
        p: int,
        *,
        positions: Positions,
        arrived: asyncio.Event,
        refused: dict[str, str],
        silent: Callable[["Feed"], None],
        history: History,
    ) -> None:
        """``arrived`` is set when something waits; ``refused`` tells why not, by name; ``silent`` is told of silence."""
        self.stream = stream
        self.p = p
        self._bus = bus
        self._positions = positions
        self._arrival = arrived
        self._refused = refused
        self._silent = silent
        self._history = history
        self.waiting: deque[Received] = deque()
        self.pending = 0
        self._unproved: list[Received] = []
        self._doubt = asyncio.Event()
        self._behind = False
        self._proved = 0
        self._task: asyncio.Task[None] | None = None
        self._restart = asyncio.Event()
        self._closing = asyncio.Event()
        self._outstanding = 0
        self._expected = 1
        self._floor = 0
        self._last = 0
        self._checked_until = EPOCH
        self._rewinds = 0
        self._heard = 0.0
        self._consumer = ""
        self._inbox = ""
        self._generation = 0

    def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"feed-{self.stream.name}-{self.p}")

    @property
    def name(self) -> str:
        """Stream and partition, for people."""
        return f"{self.stream.name}/{self.p}"

    @property
    def backlog(self) -> int:
        """How many messages are known to wait, here and in the stream."""
        return self.pending + len(self.waiting) + len(self._unproved)

    @property
    def live(self) -> bool:
        """False once closed or told to start again: what it fetched may be stale."""
        return not self._closing.is_set() and not self._restart.is_set()

    def restart(self) -> None:
        """Forget what was fetched, and begin again from the position in the database."""
        self._restart.set()

    async def close(self) -> None:
        # A flag as well as cancel: on 3.11 a cancel alone can be swallowed.
        self._closing.set()
        self._restart.set()
        if self._task:
            await asyncio.wait([self._task], timeout=1.5)
            self._task.cancel()

    async def _run(self) -> None:
        delay = 0.05
        while not self._closing.is_set():
            self._restart.clear()
            started = time.monotonic()
            try:
                await self._follow()
            except HistoryUnavailable as refusal:
                log.error(  # noqa: TRY400  (the reason says it all)
                    "history_unavailable", stream=self.stream.name, partition=self.p, reason=str(refusal)
                )
                self._refused[self.name] = str(refusal)
            except StreamRefused as refusal:
                log.error(  # noqa: TRY400  (the reason says it all)
                    "partition_refused", stream=self.stream.name, partition=self.p, reason=str(refusal)
                )
                self._refused[self.name] = str(refusal)
                delay = 5.0
            except (BusError, NatsError, TimeoutError, OSError, psycopg.Error) as error:
                log.warning("feed_again", stream=self.stream.name, partition=self.p, error=described(error))
            finally:
                self.waiting.clear()
                self._unproved.clear()
            if self._closing.is_set():
                return
            delay = 0.05 if time.monotonic() - started > 5 else min(delay * 2, 5.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._closing.wait()

    async def _follow(self) -> None:
        bus, stream = self._bus, self.stream
        try:
            position = await self._continued(await self._positions.read(stream, self.p))
        except NoStream:
            raise StreamRefused(
                f"the broker has no stream {stream.name}: restore its store, or run `relevo topology heal`, after which "
                "the owners publish again what it held"
            ) from None
        if position is None:
            return
        self._refused.pop(self.name, None)
        self._floor = self._last = position.seq
        self._checked_until, self._rewinds = position.checked_until, position.rewinds
        start = await self._fill()
        self._expected, self._outstanding, self.pending = 1, 0, 0
        self._behind, self._proved = False, start - 1
        self._generation += 1
        generation = self._generation
        self._consumer = f"{bus.service}-{self.p}-{new_id()[-12:]}"
        self._inbox = bus.nats.new_inbox()

        async def arrived(msg: Delivery) -> None:
            if generation == self._generation:  # a late message of an earlier consumer is nobody's
                await self._arrived(msg)

        subscription = await bus.wire.subscribe(self._inbox, arrived)
        proving = asyncio.create_task(self._prove(), name=f"prove-{self.name}")
        try:
            subject = reader_filter(bus.service, stream, self.p)
            await bus.create_reader(stream, self._consumer, subject, start_seq=start)
            if await bus.begins(stream) > start:
                return  # it let go of messages meanwhile: they are in the history
            await self._pull()
            while not self._restart.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await self._restart.wait()
                # The broker speaks while a pull is open; none is while what came is more than is handled.
                if self._outstanding and time.monotonic() - self._heard > SILENCE:
                    self._silent(self)
                    return
        finally:
            # Again if need be: before Python 3.12 a wait of the client library's that ends at the same moment swallows it.
            while not proving.done():
                proving.cancel()
                await asyncio.wait([proving], timeout=1)
            with contextlib.suppress(NatsError, OSError):
                await bus.wire.unsubscribe(subscription)
            if not bus.stopping:
                await bus.delete_reader(stream, self._consumer)

    async def _fill(self) -> int:
        """Have what the stream no longer holds from its owners' logs; answers where in the stream to go on.

        Raises HistoryUnavailable: without it, nothing after it may be handled.
        """
        while True:
            start = max(self._floor + 1, await self._bus.begins(self.stream))
            if start == self._floor + 1:
                return start
            first = int((await self._bus.stream_state(self.stream))["first_seq"])
            filled = 0
            async for batch in self._history.missing(self.stream, self.p, after=self._floor, before=start):
                while len(self.waiting) >= PULL and self.live:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_ROOM_SECONDS):
                            await self._restart.wait()
                if not self.live:
                    return start
                if batch[-1].seq >= first and (stored := await self._stored_time(batch[-1].seq)) is not None:
                    batch[-1].time = max(batch[-1].time, stored)
                for received in batch:
                    self._wait(received)
                self._floor = batch[-1].seq
                filled += len(batch)
            if filled:
                log.warning("feed_filled", stream=self.stream.name, partition=self.p, events=filled, through=start - 1)
            if await self._bus.begins(self.stream) <= start:
                return start

    async def _continued(self, position: Position) -> Position | None:
        """The position, when the stream still holds there what was handled; None after going back from it.

        A stream that was restored from a copy ends before the position, or holds another message there. Then it is read
        again from a little before the handled message's time, and what was handled is known by its id.
        """
        bus, stream = self._bus, self.stream
        state = await bus.stream_state(stream)
        if not position.seq or position.seq < state["first_seq"]:
            return position  # what the stream let go of, or lost and holds again further on
        stored = await bus.message_at(stream, position.seq)
        if stored is not None and _is_same(stored, position):
            return position
        if stored is None and await self._was_erased(position, state):
            return position
        if stored is not None and _id_of(stored) == position.message_id and await self._was_told(position):
            return position
        since = position.at - MARGIN
        name, subject = f"{bus.service}-{self.p}-{new_id()[-12:]}", reader_filter(bus.service, stream, self.p)
        start = await bus.create_reader(stream, name, subject, start_time=since)
        await bus.delete_reader(stream, name)
        first = await bus.message_at(stream, start) if start else None
        done = await self._positions.rewind(
            stream,
            self.p,
            position,
            to=start,
            message_id=_id_of(first) if first else "",
            at=first.time if first else since,
            until=max(now(), position.at) + MARGIN,
        )
        if done:
            telemetry.REWINDS.labels(bus.service, stream.name).inc()
            log.error(
                "stream_went_back",
                stream=stream.name,
                partition=self.p,
                handled=position.seq,
                ends=state["last_seq"],
                again_from=start + 1,
                mend="have providers send again: what was acknowledged and not handled is gone"
                if stream is INBOUND
                else "none is needed: its owner publishes the rest again, and what was handled is known by its id",
            )
        return None

    async def _was_erased(self, position: Position, state: dict[str, Any]) -> bool:
        """Whether the message at the position is missing since it was deleted, and not since the stream went back.

        A stream that went back and grew again past the position holds, before it, what was stored after it.
        """
        if position.seq > state["last_seq"]:
            return False
        before = await self._bus.last_before(self.stream, position.seq)
        return before is None or before.time <= position.at + _SAME or await self._was_told(position)

    async def _was_told(self, position: Position) -> bool:
        """Whether what was handled came from its owner's log, whose times are earlier, and the log has it there still."""
        async for batch in self._history.missing(self.stream, self.p, after=position.seq - 1, before=position.seq + 1):
            for told in batch:
                if told.message_id == position.message_id and abs(told.time - position.at) <= _SAME:
                    return True
        return False

    async def _stored_time(self, seq: int) -> datetime | None:
        """When the stream stored a message, or what it holds last before it; a later look compares with that."""
        stored = await self._bus.message_at(self.stream, seq) or await self._bus.last_before(self.stream, seq)
        return stored.time if stored else None

    async def _prove(self) -> None:
        """Hand over what came while far behind, once the stream is seen not to have let go of anything before it.

        A consumer that retention overtakes goes on with what is left, without a word: the rest would be skipped.
        """
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            while True:
                batch = self._unproved[:]
                before = batch[0].previous if batch else self._floor
                try:
                    first = await self._bus.begins(self.stream)
                except (BusError, NatsError, TimeoutError, OSError) as error:
                    log.warning("feed_unproved", stream=self.stream.name, partition=self.p, error=described(error))
                    return self.restart()
                if first > max(before, self._proved) + 1:
                    log.warning("feed_overtaken", stream=self.stream.name, partition=self.p, begins=first)
                    return self.restart()
                if batch:
                    self._proved = batch[-1].seq
                    for received in batch:
                        self._wait(received)
                    del self._unproved[: len(batch)]
                if not self._unproved:  # nothing came while we asked: what comes now may go before no other
                    break
            self._behind = self._unasked()

    def _unasked(self) -> bool:
        """Whether there is anything in the stream that was not asked for yet: until it comes, it may be gone."""
        return self.pending > self._outstanding or not self._outstanding

    def _has_room(self) -> bool:
        return self._outstanding < PULL // 2 and len(self.waiting) + len(self._unproved) < 2 * PULL

    async def _pull(self) -> None:
        ask = PULL - self._outstanding
        if not self._outstanding:
            self._heard = time.monotonic()
        self._outstanding = PULL
        request = {"batch": ask, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream.name}.{self._consumer}"
        await self._bus.nats.publish(subject, json.dumps(request).encode(), reply=self._inbox)

    async def _arrived(self, msg: Delivery) -> None:
        self._heard = time.monotonic()
        if not msg.reply:
            await self._status(msg)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
        tokens = msg.reply.rsplit(".", 4)
        seq, number, nanoseconds, pending = int(tokens[1]), int(tokens[2]), int(tokens[3]), int(tokens[4])
        if number != self._expected or seq <= self._floor:
            log.warning("feed_gap", stream=self.stream.name, partition=self.p, expected=self._expected, got=number)
            self.restart()
            return
        self._expected += 1
        previous, self._floor = self._floor, seq
        self._outstanding -= 1
        self.pending = pending
        received = Received(self.stream, self.p, msg, seq, previous, nanoseconds)
        if self._behind:
            self._unproved.append(received)
            self._doubt.set()
        else:
            self._wait(received)
        self._behind = self._behind or self._unasked()
        if self._has_room():
            await self._pull()

    def _wait(self, received: Received) -> None:
        """What waits follows on the position, each on the one before: a batch compares its first with the position only."""
        if received.previous != self._last:
            log.warning(
                "feed_gap", stream=self.stream.name, partition=self.p, expected=self._last, got=received.previous
            )
            self.restart()
            return
        self._last = received.seq
        received.rewinds = self._rewinds
        received.doubtful = received.doubtful or received.time <= self._checked_until
        self.waiting.append(received)
        self._arrival.set()

    async def more(self) -> None:
        """Pull on when handling has made room."""
        if self._has_room() and self.live:
            self._behind = self._behind or not self._outstanding
            await self._pull()

    async def _status(self, msg: Delivery) -> None:
        headers = msg.headers
        status = headers.get("Status", "")
        if status == "100":
            if (self._behind or self.pending) and not self._unproved:  # there was more, and nothing comes
                self._doubt.set()
            return
        if status == "408":
            self._outstanding = max(self._outstanding - int(headers.get("Nats-Pending-Messages", "0") or 0), 0)
            if self._has_room():
                await self._pull()
            return
        log.info("feed_status", stream=self.stream.name, partition=self.p, status=status)
        self.restart()


def _id_of(stored: StoredMessage) -> str:
    return stored.headers.get(MESSAGE_ID, "") or f"@{int(stored.time.timestamp() * 1_000_000)}"


def _is_same(stored: StoredMessage, position: Position) -> bool:
    """Whether the stream still holds the very message that was handled. Published again, it has another time."""
    has_id = not position.message_id.startswith("@")
    return (_id_of(stored) == position.message_id or not has_id) and abs(stored.time - position.at) <= _SAME
