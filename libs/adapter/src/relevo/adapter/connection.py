"""The connection to the bus: kept up for ever, with a new client whenever the library gives one up for good."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from relevo.adapter.errors import TooLarge
from relevo.contracts.grants import inbox_prefix

log = logging.getLogger("relevo.adapter")

ACK_TIMEOUT = 5.0
_TOO_LARGE = 10054
"""JetStream: message size exceeds maximum allowed."""


class BusAway(Exception):
    """The broker did not take the message now; it may later."""


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it. Again if need be: before Python 3.12 `wait_for` can swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)


class Connection:
    """Reconnects for ever; a client that is closed for good (a credential was rotated, a protocol error) is replaced.

    The credentials file is read again for each client, so that a rotated credential needs no restart.
    """

    def __init__(self, servers: list[str], credentials: Path, credential: str) -> None:
        self._servers = servers
        self._credentials = credentials
        self._credential = credential
        self.client: Client | None = None
        self.up = asyncio.Event()
        self.refused: str | None = None
        """What the broker said when it refused the credential; None once it took it."""
        self._on_up: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def on_up(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called at every connection and reconnection."""
        self._on_up.append(callback)

    def open(self) -> None:
        """Start connecting, in the background."""
        self._task = asyncio.create_task(self._stay(), name="adapter connection")

    async def close(self) -> None:
        """Flush and close."""
        self._closing = True
        client = self.client
        if client is not None and client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await client.flush(timeout=2)
        if self._task is not None:
            await end(self._task)
        if client is not None and not client.is_closed:
            await client.close()

    async def _stay(self) -> None:
        delay = 0.25
        while not self._closing:
            closed = asyncio.Event()
            client = Client()
            try:
                await self._connect(client, closed)
            except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
                log.warning("cannot connect to the bus, trying again: %r", error)
                await self._give_up(client)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 15.0)
                continue
            except asyncio.CancelledError:
                await self._give_up(client)
                raise
            if self._closing:
                await self._give_up(client)
                return
            delay = 0.25
            self.client = client
            self._is_up()
            await closed.wait()
            self.up.clear()
            if not self._closing:
                log.warning("the bus connection was closed for good (%r); opening another", client.last_error)
                await asyncio.sleep(delay)

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        async def on_error(error: Exception) -> None:
            text = str(error) or repr(error)
            if "authorization violation" in text.lower() or "authentication" in text.lower():
                self.refused = text
            if "permissions violation" in text.lower():
                log.error("the credential %s may not do this: %s", self._credential, text)
            else:
                log.debug("bus: %s", text)

        async def on_closed() -> None:
            closed.set()

        async def on_disconnected() -> None:
            self.up.clear()

        async def on_reconnected() -> None:
            self._is_up()

        await client.connect(
            self._servers,
            name=f"relevo-adapter-{self._credential}",
            user_credentials=str(self._credentials),
            inbox_prefix=inbox_prefix(self._credential),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=5,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=on_error,
            closed_cb=on_closed,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
        )

    def _is_up(self) -> None:
        self.refused = None
        self.up.set()
        for callback in self._on_up:
            callback()

    @staticmethod
    async def _give_up(client: Client) -> None:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await client.close()

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        """Publish and wait for JetStream's acknowledgement; answers whether the broker knew the message already.

        Raises BusAway when it was not acknowledged (it may be stored nevertheless), TooLarge when it never will be.
        """
        client = self.client
        if client is None or not client.is_connected:
            raise BusAway("not connected")
        if len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items()) > client.max_payload:
            raise TooLarge(f"the event has {len(body)} bytes, the bus takes {client.max_payload}")
        try:
            reply: Msg = await client.request(subject, body, timeout=ACK_TIMEOUT, headers=headers)
            answer = json.loads(reply.data)
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            raise BusAway(repr(error)) from error
        if refused := answer.get("error"):
            if refused.get("err_code") == _TOO_LARGE:
                raise TooLarge(f"the event has {len(body)} bytes, more than the stream takes")
            raise BusAway(str(refused.get("description", refused)))
        return bool(answer.get("duplicate", False))
