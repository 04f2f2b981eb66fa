"""Helper processes of a measurement: they take commands as JSON lines on stdin and answer with JSON lines on stdout.

A process of its own shares no interpreter lock with the measurement, and its CPU can be told apart. It ends when its
stdin does, so that none outlives the measurement.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import uvloop

from relevo.stack.errors import Exit, StackError

_LINE_LIMIT = 1 << 20


class Worker:
    """A helper process, seen from the measurement. ``latest`` is what it last reported unasked."""

    def __init__(self, module: str, configuration: dict[str, Any]) -> None:
        self._module = module
        self._configuration = configuration
        self._process: asyncio.subprocess.Process | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._listening: asyncio.Task[None] | None = None
        self.latest: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        self._listening = asyncio.create_task(self._listen())
        try:
            await self.ask(**self._configuration)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._listening:
            await self._listening

    def start(self, **command: Any) -> "asyncio.Future[dict[str, Any]]":
        """Send a command; the answer comes when the process is done with it. One command at a time."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.latest = {}
        self.say(**command)
        return self._answer

    def say(self, **command: Any) -> None:
        """Send what needs no answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises StackError when the process ended instead."""
        return await self.start(**command)

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if said.pop("done", False):
                if self._answer and not self._answer.done():
                    self._answer.set_result(said)
            else:
                self.latest = said
        if self._answer and not self._answer.done():
            self._answer.set_exception(
                StackError(f"{self._module} ended in the middle of its work", "Its error stands above", Exit.FAILED)
            )


def answer(**said: Any) -> None:
    """In the helper process: the answer to the command."""
    report(done=True, **said)


def report(**said: Any) -> None:
    """In the helper process: something unasked."""
    os.write(1, json.dumps(said).encode() + b"\n")


async def commands() -> AsyncIterator[dict[str, Any]]:
    """In the helper process: what it is told, until stdin ends."""
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield json.loads(line)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """In the helper process: run it."""

    async def whole() -> None:
        await main()

    uvloop.run(whole())
