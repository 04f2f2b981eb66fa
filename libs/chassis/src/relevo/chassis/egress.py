"""HTTP to addresses that others name: the guard against requests into our own network.

A name is looked up once, each of its addresses is checked, and the connection goes to the very address that was
checked: what the name says afterwards changes nothing. TLS still asks for a certificate of the name. Redirects are not
followed, no proxy of the environment is used, an answer is read up to a limit, and all of it has a time limit.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import httpcore

from relevo.kernel.addresses import BadAddress, Target, permitted, private, target

MAX_ANSWER: Final = 64 * 1024
_TRIES: Final = 3
_CONNECT_PART: Final = 0.5


class Unreachable(Exception):
    """No answer came. Its text names no address: those may hold a secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; ``body`` is None where it was longer than MAX_ANSWER."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to what a name stands for, if that may be."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await addresses_of(host, port)
        chosen = permitted(found, allow_private=self._allow_private)
        if found and not chosen:
            raise private()
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in chosen[:_TRIES]:
            # What is handed on is an IP address: nothing looks the name up again.
            ipaddress.ip_address(address.partition("%")[0])
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("no sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def addresses_of(host: str, port: int) -> list[str]:
    """What a name stands for at present. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Egress:
    """A client for such requests. Its connections are kept for a while, each to the address that was checked."""

    def __init__(self, *, allow_private: bool, allow_plain: bool, seconds: float, connections: int = 64) -> None:
        """``seconds`` is the limit of one request, from the look-up of the name to the end of the answer.

        ``allow_plain``: http will do, not https only.
        """
        self._allow_private = allow_private
        self._allow_plain = allow_plain
        self._seconds = seconds
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=connections,
            keepalive_expiry=15,
            network_backend=_Guarded(allow_private=allow_private),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body. Raises BadAddress where it may not go, Unreachable where no answer came in time."""
        to = target(url, allow_private=self._allow_private, allow_plain=self._allow_plain)
        try:
            async with asyncio.timeout(self._seconds), self._stream(to, headers, body) as answer:
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(answer.status, told, await _limited(answer))
        except BadAddress:
            raise
        except TimeoutError:
            raise Unreachable(f"no whole answer within {self._seconds:g} s") from None
        # The rest as well: what a server sends may upset the parser in ways that httpcore does not name.
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, ValueError) as error:
            raise Unreachable(f"{type(error).__name__}") from None

    def _stream(
        self, to: Target, headers: Mapping[str, str], body: bytes
    ) -> AbstractAsyncContextManager[httpcore.Response]:
        sent = {"host": to.authority, "content-length": str(len(body)), "accept-encoding": "identity", **headers}
        return self._pool.stream(
            "POST",
            httpcore.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.path),
            headers=list(sent.items()),
            content=body,
            extensions={"timeout": {"connect": self._seconds * _CONNECT_PART, "pool": self._seconds}},
        )


async def _limited(answer: httpcore.Response) -> bytes | None:
    raw = b""
    async for chunk in answer.aiter_stream():
        raw += chunk
        if len(raw) > MAX_ANSWER:
            return None
    return raw
