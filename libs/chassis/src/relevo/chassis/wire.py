"""Shortcuts past the client library's costliest lines, for those who read and publish much.

The connection, its commands and its reconnections stay the library's; a message that a reader takes is handed over where
it was parsed (no queue, no task between), and a batch is written as one piece. What was written for one connection is never
sent on the next. Built on a few private names of the library, which its version is pinned for and a contract test holds.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription

log = structlog.get_logger("relevo.wire")

_read_thoroughly = Client._parse_header_lines  # noqa: SLF001
_LINE = b"NATS/1.0\r\n"


def header_lines(raw: bytes) -> dict[str, str]:
    """A block of ``Name: value`` lines, as the client library reads it, at a fifth of the price.

    What is not written just as our publishers write it is left to the library.
    """
    if b":  " in raw or b" \r" in raw or b"\t" in raw:
        return _read_thoroughly(raw)
    try:
        return dict([line.split(": ", 1) for line in raw.decode("ascii").split("\r\n") if line])
    except ValueError:
        return _read_thoroughly(raw)


@dataclass(slots=True)
class Delivery:
    """What a reader gets of a message: its parts, as they came."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str]


Taker = Callable[[Delivery], Awaitable[None]]


class Wire:
    """The shortcuts of one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._takers: dict[int, Taker] = {}
        self._inbox = ""
        self._numbers = itertools.count()
        self._asked: dict[str, asyncio.Future[Delivery]] = {}
        self._usual = client._process_msg  # noqa: SLF001
        client._process_msg = self._delivered  # type: ignore[method-assign]  # noqa: SLF001
        client._parse_header_lines = header_lines  # type: ignore[method-assign]  # noqa: SLF001

    async def subscribe(self, subject: str, taker: Taker) -> Subscription:
        """Have ``taker`` called with every message of a subject, in the connection's own task: it must not wait long."""
        subscription = await self._client.subscribe(subject, cb=_nobody)
        self._takers[subscription._id] = taker  # noqa: SLF001
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End what ``subscribe`` began."""
        self._takers.pop(subscription._id, None)  # noqa: SLF001
        await subscription.unsubscribe()

    async def _delivered(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        taker = self._takers.get(sid)
        if taker is None:
            await self._usual(sid, subject, reply, data, headers)  # type: ignore[arg-type]
            return
        try:
            if headers is None:
                found = {}
            elif headers.startswith(_LINE):
                found = header_lines(headers[len(_LINE) :])
            else:  # a status, as heartbeats are
                found = await self._client._process_headers(headers) or {}  # noqa: SLF001
            await taker(Delivery(subject.decode(), reply.decode(), data, found))
        except Exception:  # an error here would end the connection's reading without a word
            log.exception("taker_failed", subject=subject.decode(errors="replace"))

    async def publish(self, messages: Sequence[tuple[str, str, bytes]], reply: str = "") -> None:
        """Write messages (subject, header lines, body) as one piece, in order; the broker confirms none of them.

        Raises ConnectionError while there is no connection: nothing is kept for the next one.
        """
        pieces: list[bytes] = []
        for subject, lines, body in messages:
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
            pieces += (
                f"HPUB {subject} {reply} {len(block)} {len(block) + len(body)}\r\n".encode(),
                block,
                body,
                b"\r\n",
            )
        if not self._client.is_connected:
            raise ConnectionError("the bus is away")
        await self._client._send_command(b"".join(pieces))  # noqa: SLF001
        await self._client._flush_pending()  # noqa: SLF001

    async def ask(self, subject: str, lines: str, body: bytes, seconds: float) -> Delivery:
        """Publish one message, and wait for its answer.

        Raises TimeoutError, and ConnectionError while there is no connection or nobody answers on that subject.
        """
        if not self._inbox:
            self._inbox = self._client.new_inbox()
            await self.subscribe(f"{self._inbox}.*", self._answered)
        reply = f"{self._inbox}.{next(self._numbers)}"
        answer = self._asked[reply] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self.publish([(subject, lines, body)], reply)
                delivery: Delivery = await answer
        finally:
            del self._asked[reply]
        if "Status" in delivery.headers:
            raise ConnectionError(f"nobody answers on {subject}")
        return delivery

    async def _answered(self, delivery: Delivery) -> None:
        answer = self._asked.get(delivery.subject)
        if answer is not None and not answer.done():
            answer.set_result(delivery)

    def forget(self) -> None:
        """Drop what was written and has not left: the library would send it on the next connection."""
        self._client._pending.clear()  # noqa: SLF001
        self._client._pending_data_size = 0  # noqa: SLF001


def lines_of(headers: str, more: Mapping[str, str]) -> str:
    """Header lines for ``publish``: those of a JSON object of strings, and more."""
    found: dict[str, str] = json.loads(headers)
    if "\\" in headers:  # a line break in a value would forge a header
        found = {name: " ".join(value.split()) for name, value in found.items()}
    return "".join([f"{name}: {value}\r\n" for name, value in (found | dict(more)).items()])


async def _nobody(_: object) -> None:
    """Messages of these subscriptions never come this way."""
