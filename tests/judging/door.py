"""HTTP as the load needs it: connections that are kept, one request at a time on each.

By hand, as a general client took a fifth of the machine that is measured, most of it to look at its other connections.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back. 503 without a body: the connection ended first."""

    status: int
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Door:
    """As many connections to one address as are needed at once, `most` of them."""

    def __init__(self, url: str, most: int = 64) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        self._at = where.hostname, where.port or 80
        self._places = asyncio.Semaphore(most)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()

    async def ask(self, method: str, path: str, token: str = "", body: Any = None) -> Answer:
        """Ask once."""
        async with self._places, asyncio.timeout(TIMEOUT):
            try:
                reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._at)
                writer.write(self._request(method, path, token, body))
                answer = await _read(reader)
            except (OSError, asyncio.IncompleteReadError):
                return Answer(503)
            self._idle.append((reader, writer))
            return answer

    def _request(self, method: str, path: str, token: str, body: Any) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: {}:{}".format(*self._at), f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json", "If-Match: *"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        return "\r\n".join([*lines, "", ""]).encode() + content


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    length = head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
    assert length or status == 204, f"an answer of unknown length: {head!r}"
    return Answer(status, await reader.readexactly(int(length or 0)))
