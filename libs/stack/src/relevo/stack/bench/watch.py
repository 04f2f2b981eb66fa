"""The metrics consumer of a measurement, a process of its own, with metrics credentials.

Counts each fact once, by its id, and takes the latency of every customer message: the arrival of its fact here, less
the message's own time, which is the moment at which it was due to be published.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from relevo.stack.bench import worker
from relevo.stack.bench.figures import summarise
from relevo.stack.bench.wire import Wire, frame_of
from relevo.stack.errors import Exit, StackError

_BATCH = 1000
_EXPIRES_SECONDS = 5.0
_SILENT_SECONDS = 2 * _EXPIRES_SECONDS
_AGAIN_SECONDS = 0.5
_MADE_SECONDS = 10.0
_REPORT_SECONDS = 0.2
_IDLE_SECONDS = 60
COUNTED = ("messages_in", "wait_in_queue", "rules_executed")
"""Measured, assigned, automated: the metrics that say so."""


class Tally:
    """What one run's facts say. Facts of messages that were due before ``since`` belong to another run."""

    def __init__(self, inbox_ids: Iterable[str], since: float) -> None:
        self._inboxes = frozenset(inbox_ids)
        self._since = since
        self._seen: set[str] = set()
        self._latencies: list[float] = []
        self._first_at: dict[str, float] = {}
        self._assigned: dict[str, float] = {}
        self.counts = dict.fromkeys(COUNTED, 0)
        self.last = 0.0
        self.twice = 0

    def take(self, fact: dict[str, Any], arrived: float) -> None:
        """Take one fact of the stream, ``arrived`` in seconds since the epoch."""
        metric = fact["metric"]
        if metric not in self.counts or fact["dimensions"].get("inbox_id") not in self._inboxes:
            return
        at = datetime.fromisoformat(fact["at"]).timestamp()
        if at < self._since:
            return
        if fact["fact_id"] in self._seen:
            self.twice += 1
            return
        self._seen.add(fact["fact_id"])
        self.counts[metric] += 1
        self.last = max(self.last, arrived)
        conversation = fact["conversation_id"]
        if metric == "messages_in":
            self._latencies.append(arrived - at)
            self._first_at[conversation] = min(at, self._first_at.get(conversation, at))
        elif metric == "wait_in_queue":
            self._assigned[conversation] = arrived

    def summary(self) -> dict[str, Any]:
        """Counts and latencies in seconds: of every message to its fact, of every new conversation to an agent's fact."""
        measured = summarise(self._latencies)
        assigned = summarise(
            arrived - self._first_at[conversation]
            for conversation, arrived in self._assigned.items()
            if conversation in self._first_at
        )
        return {
            "counts": self.counts,
            "twice": self.twice,
            "last": self.last,
            "measured": asdict(measured) if measured else None,
            "assigned": asdict(assigned) if assigned else None,
        }


class Tenant:
    """Pulls one account's facts as they come, into whatever tally is set."""

    def __init__(self, url: str, told: dict[str, str]) -> None:
        self.inbox_id = told["inbox_id"]
        self.tally = Tally([self.inbox_id], time.time())
        self._name = told["credential"]
        self._subject = f"metrics.{told['account_id']}.fact.*"
        self._wire = Wire(url, self._name, told["credentials"], self._on)
        self._wanted = 0
        self._heard = 0.0
        self._connection = 0
        self._last = 0
        self._refusal = ""
        self._made = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and follow from now on; goes on behind the last fact when the connection or the broker was lost.

        Raises StackError when the broker refuses.
        """
        await self._wire.open()
        self._keeping = asyncio.create_task(self._keep())
        with suppress(TimeoutError):
            async with asyncio.timeout(_MADE_SECONDS):
                await self._made.wait()
        if not self._made.is_set():
            raise StackError(f"the metrics consumer was refused: {self._refusal or 'no answer'}", code=Exit.FAILED)

    async def close(self) -> None:
        """Stop following."""
        if self._keeping:
            self._keeping.cancel()
        await self._wire.close()

    async def _keep(self) -> None:
        while True:
            silent = time.monotonic() - self._heard > _SILENT_SECONDS
            if self._wire.connected.is_set() and (silent or self._connection != self._wire.connections):
                self._connection, self._heard = self._wire.connections, time.monotonic()
                self._make()
            await asyncio.sleep(_AGAIN_SECONDS)
            if not self._made.is_set():
                self._connection = 0  # nobody answered: ask again

    def _make(self) -> None:
        self._made.clear()
        after = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        config = {
            "name": self._name,
            "ack_policy": "none",
            "filter_subject": self._subject,
            "mem_storage": True,
            "inactive_threshold": _IDLE_SECONDS * 1_000_000_000,
            **(after if self._last else {"deliver_policy": "new"}),
        }
        create = {"stream_name": "METRICS", "config": config, "action": "create"}
        self._ask(f"CONSUMER.DELETE.METRICS.{self._name}", {}, "deleted")
        self._ask(f"CONSUMER.CREATE.METRICS.{self._name}.{self._subject}", create, "made")

    def _ask(self, operation: str, request: dict[str, Any], answer: str) -> None:
        self._wire.send(frame_of(f"$JS.API.{operation}", f"{self._wire.inbox}.{answer}", json.dumps(request).encode()))

    def _pull(self) -> None:
        self._wanted = _BATCH
        request = {"batch": _BATCH, "expires": int(_EXPIRES_SECONDS * 1e9)}
        self._ask(f"CONSUMER.MSG.NEXT.METRICS.{self._name}", request, "next")

    def _on(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self._heard = time.monotonic()
        if reply:
            # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
            sequence = int(reply.rsplit(b".", 4)[1])
            if sequence <= self._last:
                return  # of the consumer before this one
            self._last = sequence
            self.tally.take(json.loads(payload), time.time())
            self._wanted -= 1
            if self._wanted == 0:
                self._pull()
        elif subject.endswith(b".made"):
            if payload and b'"error"' not in payload:
                self._made.set()
                self._pull()
            else:
                self._refusal = (payload or headers).decode(errors="replace")[:200]
        elif subject.endswith(b".next"):
            if b" 408 " in headers[:16]:  # expired with nothing, or not all, to give
                self._pull()
            else:
                self._connection = 0  # the consumer is gone


async def main() -> None:
    """Told first where to read, then when a run begins and when its sum is wanted."""
    told = worker.commands()
    where = await anext(told)
    tenants = [Tenant(where["nats_url"], tenant) for tenant in where["tenants"]]
    for tenant in tenants:
        await tenant.open()
    tallies: list[Tally] = []
    worker.answer(pid=os.getpid())
    reporting = asyncio.create_task(_report(tallies))
    async for command in told:
        if command["do"] == "begin":
            tallies[:] = [Tally((tenants[i].inbox_id for i in group), time.time()) for group in command["groups"]]
            for tally, group in zip(tallies, command["groups"], strict=True):
                for i in group:
                    tenants[i].tally = tally
            worker.answer()
        else:
            worker.answer(groups=[tally.summary() for tally in tallies], cpu=time.process_time())
    reporting.cancel()
    for tenant in tenants:
        await tenant.close()


async def _report(tallies: list[Tally]) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        worker.report(counts=[tally.counts for tally in tallies])


if __name__ == "__main__":
    worker.run(main)
