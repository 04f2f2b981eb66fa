"""The connection to the bus, and the few JetStream requests that the reader and the relay need.

FastStream's NatsBroker owns the connection (and the unordered subscribers); this module adds the guards of
research on its traps: reconnect for ever, die when the client library closes for good, notice a half-open socket in
seconds, and count what the broker refuses.
"""

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from faststream.middlewares import AckPolicy
from faststream.nats import NatsBroker
from faststream.nats.security import NatsCredentials
from nats.aio.client import Client

from relevo.chassis import telemetry
from relevo.chassis.wire import Wire, header_lines
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import INBOUND, Stream

log = structlog.get_logger("relevo.bus")

REQUEST_TIMEOUT = 5.0
MINIMUM_API_LEVEL = 2
"""Atomic batches need nats-server 2.12 or later."""


class BusError(Exception):
    """The broker refused, or answered something unexpected. ``code`` is JetStream's error code, 0 if none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NoStream(BusError):
    """The broker has no such stream."""


class UnsafeBroker(Exception):
    """The broker runs with a configuration that could lose acknowledged messages."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the stream holds it."""

    seq: int
    subject: str
    headers: dict[str, str]
    time: datetime
    body: bytes = b""


class Bus:
    """One connection of one service."""

    def __init__(self, service: str, url: str, credentials: str | None) -> None:
        self.service = service
        self.stopping = False
        self._on_disconnect: list[Callable[[], None]] = []
        self._on_reconnect: list[Callable[[], None]] = []
        self.broker = NatsBroker(
            url,
            name=f"relevo-{service}-{os.getpid()}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=16 * 1024 * 1024,
            flush_timeout=5,
            error_cb=self._error,
            closed_cb=self._closed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            inbox_prefix=inbox_prefix(service),
            graceful_timeout=10,
            ack_policy=AckPolicy.MANUAL,
            logger=None,
            security=NatsCredentials(credentials) if credentials else None,
        )
        self.nats: Client
        self.wire: Wire

    async def connect(self) -> None:
        """Connect, and check that the broker can do what the relay relies on. Raises UnsafeBroker."""
        self.nats = await self.broker.connect()
        self.wire = Wire(self.nats)
        account = await self.request("$JS.API.INFO", {})
        if account.get("api", {}).get("level", 0) < MINIMUM_API_LEVEL:
            raise UnsafeBroker("nats-server is too old: atomic batches need 2.12 or later; upgrade the broker")

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the connection is gone, before the next one is made."""
        self._on_disconnect.append(callback)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after every reconnection: pulls and consumers may be gone."""
        self._on_reconnect.append(callback)

    async def _error(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text.lower():
            telemetry.PERMISSION_VIOLATIONS.labels(self.service).inc()
        if text:
            log.warning("bus_error", error=text)

    async def _disconnected(self) -> None:
        # Nothing may reach another connection than the one it was meant for: that broker's store may be from before.
        self.wire.forget()
        for callback in self._on_disconnect:
            callback()

    async def _reconnected(self) -> None:
        log.info("bus_reconnected")
        for callback in self._on_reconnect:
            callback()

    async def _closed(self) -> None:
        # The client library never comes back from here, and FastStream's pull loops would spin: a new process will.
        if not self.stopping:
            log.critical("bus_closed", mend="the process ends with code 70 and is restarted by its supervisor")
            os._exit(70)

    async def close(self) -> None:
        """Drain and close; our own closing is no failure."""
        self.stopping = True
        await self.broker.stop()

    async def request(self, subject: str, payload: dict[str, Any], timeout: float = REQUEST_TIMEOUT) -> dict[str, Any]:  # noqa: ASYNC109
        """A JetStream API request. Raises BusError with the broker's own words."""
        reply = await self.nats.request(subject, json.dumps(payload).encode(), timeout=timeout)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            kind = NoStream if error.get("err_code") == _NO_STREAM else BusError
            raise kind(f"{subject}: {error.get('description', error)}", error.get("err_code", 0))
        return answer

    async def publish(self, subject: str, lines: str = "", body: bytes = b"", timeout: float = REQUEST_TIMEOUT) -> int:  # noqa: ASYNC109
        """Publish one message, with header lines; answers its sequence in the stream that stored it.

        What is not answered may be stored or not, yet is never stored by a later connection. Raises BusError with the
        broker's own words, TimeoutError, ConnectionError.
        """
        answer: dict[str, Any] = json.loads((await self.wire.ask(subject, lines, body, timeout)).data)
        if error := answer.get("error"):
            raise BusError(f"{answer.get('stream', subject)}: {error.get('description')}", error.get("err_code", 0))
        if answer.get("duplicate"):
            raise BusError(f"{answer['stream']}: what was published on {subject} is in the stream already")
        return int(answer["seq"])

    async def stream_info(self, stream: Stream) -> dict[str, Any]:
        """The stream's ``config``, ``state`` and ``created``. Raises NoStream."""
        return await self.request(f"$JS.API.STREAM.INFO.{stream.name}", {})

    async def stream_state(self, stream: Stream) -> dict[str, Any]:
        """First and last sequence and the like. Raises NoStream."""
        state: dict[str, Any] = (await self.stream_info(stream))["state"]
        return state

    async def begins(self, stream: Stream) -> int:
        """From which sequence on the stream holds everything that was stored: behind its newest hole.

        Messages of people who were erased are deleted from within a stream; what stood there is in its owner's log, told
        anew. INBOUND has no owner who could tell it, so its holes are read over. Raises NoStream.
        """
        state = await self.stream_state(stream)
        if stream is INBOUND or not state.get("num_deleted"):
            return int(state["first_seq"])
        first, deleted = await self._holes(stream)
        return max(first, max(deleted, default=0) + 1)

    async def last_before(self, stream: Stream, seq: int) -> StoredMessage | None:
        """The last message that the stream holds before a sequence, None when it holds none."""
        first, deleted = await self._holes(stream)
        place = seq - 1
        while place in deleted:
            place -= 1
        return await self.message_at(stream, place) if place >= first else None

    async def _holes(self, stream: Stream) -> tuple[int, frozenset[int]]:
        """The stream's first sequence, and those within it that were deleted."""
        answer = await self.request(f"$JS.API.STREAM.INFO.{stream.name}", {"deleted_details": True})
        state = answer["state"]
        return int(state["first_seq"]), frozenset(state.get("deleted") or ())

    async def delete_message(self, stream: Stream, seq: int) -> None:
        """Have the stream overwrite a message; one that is not there any more is fine. Raises BusError."""
        try:
            await self.request(f"$JS.API.STREAM.MSG.DELETE.{stream.name}", {"seq": seq, "no_erase": False})
        except BusError:
            if await self.message_at(stream, seq) is not None:
                raise

    async def message_at(self, stream: Stream, seq: int) -> StoredMessage | None:
        """The message with exactly this sequence, None when the stream does not hold it."""
        return await self._get(stream, {"seq": seq})

    async def next_message(self, stream: Stream, seq: int, subject: str) -> StoredMessage | None:
        """The first message from ``seq`` on whose stored subject matches, or None."""
        return await self._get(stream, {"seq": seq, "next_by_subj": subject})

    async def last_message(self, stream: Stream, subject: str) -> StoredMessage | None:
        """The last message whose stored subject matches, or None."""
        return await self._get(stream, {"last_by_subj": subject})

    async def _get(self, stream: Stream, query: dict[str, Any]) -> StoredMessage | None:
        try:
            answer = await self.request(f"$JS.API.STREAM.MSG.GET.{stream.name}", query)
        except BusError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return StoredMessage(
            seq=message["seq"],
            subject=message["subject"],
            headers=_headers(base64.b64decode(message.get("hdrs", ""))),
            time=parse_time(message["time"]),
            body=base64.b64decode(message.get("data", "")),
        )

    async def create_reader(
        self,
        stream: Stream,
        name: str,
        subject: str,
        *,
        start_seq: int | None = None,
        start_time: datetime | None = None,
    ) -> int:
        """A short-lived consumer of our own: memory, no acks, from a place on; it vanishes when we do.

        Answers the stream's last sequence before that place.
        """
        config: dict[str, Any] = {
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": subject,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(timedelta(seconds=10).total_seconds() * 1e9),
            "max_waiting": 16,
        }
        if start_time is not None:
            config |= {"deliver_policy": "by_start_time", "opt_start_time": start_time.isoformat()}
        else:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start_seq or 1}
        answer = await self.request(
            f"$JS.API.CONSUMER.CREATE.{stream.name}.{name}.{subject}",
            {"stream_name": stream.name, "config": config, "action": "create"},
        )
        return int(answer["delivered"]["stream_seq"])

    async def delete_reader(self, stream: Stream, name: str) -> None:
        """Remove a reader's consumer; one that is gone already is fine."""
        try:
            await self.request(f"$JS.API.CONSUMER.DELETE.{stream.name}.{name}", {}, timeout=1)
        except (BusError, TimeoutError, OSError) as error:
            log.debug("reader_not_deleted", stream=stream.name, reader=name, error=str(error))
        except Exception as error:  # noqa: BLE001  (the client library raises many kinds; the consumer expires by itself)
            log.debug("reader_not_deleted", stream=stream.name, reader=name, error=repr(error))


_NO_MESSAGE = 10037
_NO_STREAM = 10059


def parse_time(text: str) -> datetime:
    """The broker's RFC 3339 time; its nanoseconds are cut to microseconds."""
    head, _, tail = text.partition(".")
    digits = tail.rstrip("Z")
    if "+" in digits:
        digits = digits.partition("+")[0]
    return datetime.fromisoformat(f"{head.rstrip('Z')}.{(digits + '000000')[:6]}+00:00")


def _headers(raw: bytes) -> dict[str, str]:
    return header_lines(raw.partition(b"\r\n")[2])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, every: float = 0.05) -> bool:
    """Wait until ``condition`` holds, at most ``seconds``; tells whether it did."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await condition():
        if loop.time() >= end:
            return False
        await asyncio.sleep(every)
    return True
