"""The load of the baseline, a process of its own: customers' messages over HTTP, open loop, as `load` does over NATS.

Connections are kept open and written to directly: a general client would cost more than the program that is measured.
"""

import asyncio
import json
import os
import random
import time
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from relevo.contracts.base import new_id
from relevo.stack.bench import worker
from relevo.stack.bench.figures import Scenario, due_by, is_first, is_matched, summarise
from relevo.stack.bench.load import MATCHING, OTHER

_CONNECTIONS = 24
_TICK_SECONDS = 0.005


class HttpLoader:
    """Posts messages as they fall due; each connection carries one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._mark = new_id()[-8:]
        self._contacts = 0
        self._random = random.Random(1)
        self._due: deque[tuple[float, bytes]] = deque()
        self._work = asyncio.Semaphore(0)
        self._latencies: list[float] = []
        self._refused = 0
        self._last = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect."""
        for _ in range(_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._tasks.add(asyncio.create_task(self._carry(reader, writer)))

    async def run(self, scenario: Scenario, rate: float, total: int, hopeless: float) -> dict[str, Any]:
        """Post ``total`` messages at ``rate``; ends early when more than ``hopeless`` of them wait."""
        run, cpu = new_id()[-12:], time.process_time()
        self._latencies, self._refused = [], 0
        began, wall = time.monotonic(), time.time()
        sent, stopped = 0, False
        while sent < total and not stopped:
            for number in range(sent, due_by(time.monotonic() - began, rate, total)):
                self._due.append((wall + number / rate, self._request(scenario, number, run, wall + number / rate)))
                self._work.release()
                sent = number + 1
            stopped = len(self._due) > hopeless
            await asyncio.sleep(max(sent / rate - (time.monotonic() - began), _TICK_SECONDS))
        ended = time.time()
        while len(self._latencies) + self._refused < sent:  # noqa: ASYNC110  (once, at the end of a run)
            await asyncio.sleep(0.01)
        measured = summarise(self._latencies)
        return {
            "sent": sent,
            "took": ended - wall,
            "drained": max(self._last - ended, 0.0),
            "stopped": stopped,
            "refused": self._refused,
            "cpu": time.process_time() - cpu,
            "measured": asdict(measured) if measured else None,
        }

    def _request(self, scenario: Scenario, number: int, run: str, due: float) -> bytes:
        if is_first(scenario, number) or not self._contacts:
            contact, self._contacts = self._contacts, self._contacts + 1
        else:
            contact = self._random.randrange(self._contacts)
        body = json.dumps(
            {
                "external_id": f"{run}-{number}",
                "sender": f"bench-{self._mark}-{contact}",
                "text": MATCHING if is_matched(number) else OTHER,
                "occurred_at": datetime.fromtimestamp(due, UTC).isoformat(timespec="microseconds"),
            },
            ensure_ascii=False,
        ).encode()
        head = f"POST /messages HTTP/1.1\r\nHost: baseline\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._work.acquire()
            due, request = self._due.popleft()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            self._last = time.time()
            if head.startswith(b"HTTP/1.1 201"):
                self._latencies.append(self._last - due)
            else:
                self._refused += 1


async def main() -> None:
    """Told the port, then what to post."""
    told = worker.commands()
    where = await anext(told)
    loader = HttpLoader(where["port"])
    await loader.open()
    worker.answer(pid=os.getpid())
    async for command in told:
        worker.answer(**await loader.run(command["scenario"], command["rate"], command["total"], command["hopeless"]))


if __name__ == "__main__":
    worker.run(main)
