"""The NATS protocol for the two processes that measure, as little of it as they need.

They share the machine's cores with what they measure, so that what they take is missing there: this costs a fifth of
what a general client costs for a message with headers. A lost connection is made again, with the same subscriptions.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import nkeys

from relevo.chassis.credentials import parse_creds
from relevo.contracts.base import new_id
from relevo.contracts.grants import inbox_prefix
from relevo.stack.errors import Exit, StackError

HEADER_LINE = "NATS/1.0"
_AGAIN_SECONDS = 0.05
_CONNECT_SECONDS = 5.0

OnMessage = Callable[[bytes, bytes, bytes, bytes], None]
"""Subject, reply subject, headers and payload."""


class Wire:
    """One connection with one subscription: everything below an inbox of its own."""

    def __init__(self, url: str, name: str, credentials: str, on_message: OnMessage) -> None:
        """``name`` is the credential's: the broker lets it receive below ``_INBOX_<name>`` only."""
        place = urlsplit(url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 4222
        self._credentials = credentials
        self._on_message = on_message
        self._transport: asyncio.WriteTransport | None = None
        self._closing = False
        self._keeping: asyncio.Task[None] | None = None
        self.inbox = f"{inbox_prefix(name)}.{new_id()[-12:]}"
        self.connected = asyncio.Event()
        self.connections = 0
        self.refusal = ""
        """What the broker last complained of."""

    async def open(self) -> None:
        """Connect, and stay connected until closed. Raises StackError when the broker does not let us in."""
        self._keeping = asyncio.create_task(self._keep())
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self.connected.wait()
        if not self.connected.is_set():
            await self.close()
            raise StackError(
                f"no connection to the broker at {self._host}:{self._port}: {self.refusal or 'no answer'}",
                code=Exit.FAILED,
            )

    async def close(self) -> None:
        """Let go."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    def send(self, frame: bytes) -> bool:
        """Write what `frame_of` made, several in a row as well. False while there is no connection."""
        if self._transport is None or not self.connected.is_set():
            return False
        self._transport.write(frame)
        return True

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            lost = loop.create_future()
            with suppress(OSError):
                await loop.create_connection(
                    lambda lost=lost: _Connection(self, lost),  # type: ignore[misc]
                    self._host,
                    self._port,
                )
                await lost
            self.connected.clear()
            self._transport = None
            await asyncio.sleep(_AGAIN_SECONDS)

    def introduce(self, transport: asyncio.WriteTransport, nonce: str) -> None:
        """Answer the broker's greeting; its PONG says that we are in."""
        jwt, seed = parse_creds(Path(self._credentials).read_text())
        signature = base64.urlsafe_b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "python",
            "version": "1",
            "jwt": jwt,
            "sig": signature.decode().rstrip("="),
        }
        transport.write(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.> 1\r\nPING\r\n".encode())
        self._transport = transport

    def welcomed(self) -> None:
        """The broker has taken everything sent so far."""
        if not self.connected.is_set():
            self.connections += 1
            self.connected.set()

    def take(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        """A message."""
        self._on_message(subject, reply, headers, payload)


class _Connection(asyncio.Protocol):
    def __init__(self, wire: Wire, lost: "asyncio.Future[None]") -> None:
        self._wire = wire
        self._lost = lost
        self._rest = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one without saying so

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, end = 0, len(data)
        while (eol := data.find(b"\r\n", at)) >= 0:
            word = data[at : at + 4]
            if word in (b"MSG ", b"HMSG"):
                fields = data[at:eol].split(b" ")
                begin, total = eol + 2, int(fields[-1])
                if end < begin + total + 2:
                    break
                head = int(fields[-2]) if word == b"HMSG" else 0
                reply = fields[3] if len(fields) == (6 if head else 5) else b""
                self._wire.take(fields[1], reply, data[begin : begin + head], data[begin + head : begin + total])
                at = begin + total + 2
            else:
                self._control(word, data[at:eol])
                at = eol + 2
        self._rest = data[at:]

    def _control(self, word: bytes, line: bytes) -> None:
        assert self._transport is not None
        if word == b"PING":
            self._transport.write(b"PONG\r\n")
        elif word == b"PONG":
            self._wire.welcomed()
        elif word == b"INFO" and not self._wire.connected.is_set():
            self._wire.introduce(self._transport, json.loads(line[5:]).get("nonce", ""))
        elif word == b"-ERR":
            self._wire.refusal = line[5:].decode(errors="replace").strip("'")


def frame_of(subject: str, reply: str, payload: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A publish on the wire. Header values are tokens and times of our own: nothing in them needs escaping."""
    if headers is None:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
    head = "".join([HEADER_LINE, "\r\n", *[f"{name}: {value}\r\n" for name, value in headers.items()], "\r\n"]).encode()
    return b"".join(
        (f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n".encode(), head, payload, b"\r\n")
    )
