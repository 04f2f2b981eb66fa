"""A network that can be broken: TCP proxies between one replica and the servers it stands on."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["none", "cut", "half-open", "slow", "reset"]
SLOW_SECONDS = 0.2
_CHUNK = 64 * 1024


@dataclass
class Link:
    """Forwards one port to another, as well as `fault` lets it.

    cut: connections end and none are taken. half-open: nothing goes through, and nobody is told. slow: every piece
    takes SLOW_SECONDS longer, in both directions. reset: every connection ends after a few pieces, in the midst.
    """

    target: int
    random: random.Random
    port: int = 0
    fault: Fault = "none"
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Link"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.fault = "cut"
            server.close()
            self._end_all()

    def suffer(self, fault: Fault) -> None:
        """From now on."""
        self.fault = fault
        if fault == "cut":
            self._end_all()

    def _end_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "cut":
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.wait(
                [
                    asyncio.create_task(self._forward(reader, far_writer)),
                    asyncio.create_task(self._forward(far_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for one in both:
            one.transport.abort()
        self._writers -= both

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.random.randrange(20, 200)
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK):
                while self.fault == "half-open":  # noqa: ASYNC110 — nobody tells
                    await asyncio.sleep(0.05)
                if self.fault == "slow":
                    await asyncio.sleep(SLOW_SECONDS)
                if self.fault == "reset":
                    left -= 1
                    if left <= 0:
                        writer.write(piece[: len(piece) // 2])
                        return
                writer.write(piece)
                await writer.drain()
