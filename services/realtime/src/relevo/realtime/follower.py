"""Reading a stream without a lease: every process sees every event, from now on, in order.

Nothing is stored and nothing is acknowledged. On any doubt (a gap, silence, a reconnection) the follower makes its
consumer anew from its own place, so that nothing is missed while the stream keeps it; else ``on_break`` is told.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from relevo.chassis.bus import Bus, BusError
from relevo.chassis.database import described
from relevo.contracts.base import new_id
from relevo.contracts.envelope import AGAIN
from relevo.contracts.streams import Stream

log = structlog.get_logger("relevo.realtime")

_PULL = 256
_EXPIRES = 30.0
_BEAT = 3.0
_SILENCE = 2.5 * _BEAT
_ANSWER = 5.0
_REFILL_SECONDS = 10.0
_GRACE = 1.5


class Follower:
    """Follows one stream; ``on_message`` gets every message once, in order, and must not wait for anything."""

    def __init__(
        self, bus: Bus, stream: Stream, on_message: Callable[[Msg, int], None], on_break: Callable[[], None]
    ) -> None:
        self.stream = stream
        self.seq = 0
        self._bus = bus
        self._on_message = on_message
        self._on_break = on_break
        self._refilled = 0.0
        self._again = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._generation = 0
        self._name = self._inbox = ""
        self._expected = 1
        self._outstanding = 0
        self._heard = 0.0

    async def start(self) -> None:
        """Follow from the stream's present end on; when this returns, ``seq`` is that end. Raises BusError."""
        self.seq = (await self._bus.stream_state(self.stream))["last_seq"]
        self._task = asyncio.create_task(self._run(), name=f"follower {self.stream.name}")

    async def stop(self) -> None:
        """Let go of the stream."""
        self._stopping.set()
        self._again.set()
        # Cancelled more than once if need be: in Python 3.11 a wait_for (the client library's) can swallow it.
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=_GRACE)
            self._task.cancel()

    def restart(self) -> None:
        """After a reconnection: the consumer may be gone."""
        self._again.set()

    async def _run(self) -> None:
        delay = 0.05
        while not self._stopping.is_set():
            self._again.clear()
            started = time.monotonic()
            try:
                await self._follow()
            except (BusError, NatsError, TimeoutError, OSError) as error:
                log.warning("follower_again", stream=self.stream.name, error=described(error))
            delay = 0.05 if time.monotonic() - started > 5 else min(delay * 2, 5.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _follow(self) -> None:
        bus = self._bus
        state = await bus.stream_state(self.stream)
        if state["last_seq"] < self.seq or state["first_seq"] > self.seq + 1:
            log.warning("follower_lost_its_place", stream=self.stream.name, seq=self.seq)
            self.seq = state["last_seq"]
            self._on_break()
        self._generation += 1
        generation = self._generation
        self._expected, self._outstanding = 1, 0
        self._name = f"{bus.service}-live-{new_id()[-12:]}"
        self._inbox = bus.nats.new_inbox()

        async def arrived(msg: Msg) -> None:
            if generation == self._generation:  # a late message of an earlier consumer is nobody's
                await self._arrived(msg)

        subscription = await bus.nats.subscribe(self._inbox, cb=arrived)
        try:
            await bus.create_reader(self.stream, self._name, self.stream.stored(), start_seq=self.seq + 1)
            self._heard = time.monotonic()
            await self._pull()
            while not (self._again.is_set() or self._stopping.is_set()) and time.monotonic() - self._heard < _SILENCE:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BEAT):
                        await self._again.wait()
        finally:
            self._generation += 1
            with contextlib.suppress(NatsError, OSError):
                await subscription.unsubscribe()
            if not bus.stopping:
                await bus.delete_reader(self.stream, self._name)

    async def _pull(self) -> None:
        ask = _PULL - self._outstanding
        self._outstanding = _PULL
        request = {"batch": ask, "expires": int(_EXPIRES * 1e9), "idle_heartbeat": int(_BEAT * 1e9)}
        await self._bus.nats.publish(_next(self.stream, self._name), json.dumps(request).encode(), reply=self._inbox)

    async def _arrived(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        if not msg.reply:
            await self._status(msg)
            return
        seq, number, _ = _place(msg)
        if number != self._expected or seq <= self.seq:
            log.warning("follower_gap", stream=self.stream.name, expected=self._expected, got=number)
            self.restart()
            return
        self._expected += 1
        self._outstanding -= 1
        self.seq = seq
        if AGAIN in (msg.headers or {}):
            # The stream was lost and is filled again. All of it was committed before it began: one look at that is enough.
            if self._heard - self._refilled > _REFILL_SECONDS:
                self._on_break()
            self._refilled = self._heard
        else:
            self._on_message(msg, seq)
        if self._outstanding < _PULL // 2:
            await self._pull()

    async def _status(self, msg: Msg) -> None:
        headers = msg.headers or {}
        status = headers.get("Status", "")
        if status == "408":
            self._outstanding = max(self._outstanding - int(headers.get("Nats-Pending-Messages", "0") or 0), 0)
            if self._outstanding < _PULL // 2:
                await self._pull()
        elif status != "100":
            log.info("follower_status", stream=self.stream.name, status=status)
            self.restart()


async def read_range(bus: Bus, stream: Stream, subject: str, first: int, last: int) -> AsyncIterator[tuple[Msg, int]]:
    """The messages of these sequences, both included, whose stored subject matches, in order, each with its sequence.

    Raises BusError or TimeoutError when the broker does not give all of them.
    """
    name = f"{bus.service}-range-{new_id()[-12:]}"
    inbox = bus.nats.new_inbox()
    subscription = await bus.nats.subscribe(inbox)
    expected = 1
    try:
        await bus.create_reader(stream, name, subject, start_seq=first)
        while True:
            request = json.dumps({"batch": _PULL, "no_wait": True}).encode()
            await bus.nats.publish(_next(stream, name), request, reply=inbox)
            for _ in range(_PULL):
                try:
                    msg = await subscription.next_msg(timeout=_ANSWER)
                except NatsError as error:
                    raise BusError(f"{stream.name}: the broker does not answer a pull: {error!r}") from error
                if not msg.reply:
                    return  # 404 or 408: that was all
                seq, number, pending = _place(msg)
                if number != expected:
                    raise BusError(f"{stream.name}: gap while catching up at {seq}")
                expected += 1
                if seq > last:
                    return
                yield msg, seq
                if not pending:
                    return
    finally:
        with contextlib.suppress(NatsError, OSError):
            await subscription.unsubscribe()
        await bus.delete_reader(stream, name)


def _next(stream: Stream, name: str) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{name}"


def _place(msg: Msg) -> tuple[int, int, int]:
    """(stream sequence, consumer sequence, pending) of $JS.ACK.<stream>.<consumer>.<delivered>.<…>.<…>.<time>.<…>."""
    tokens = msg.reply.rsplit(".", 4)
    return int(tokens[1]), int(tokens[2]), int(tokens[4])
