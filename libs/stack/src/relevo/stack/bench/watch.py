"""The metrics consumer of a measurement, a process of its own, with a metrics credential.

Counts each fact once, by its id, and takes the latency of every customer message: the arrival of its fact here, less
the message's own time, which is the moment at which it was due to be published.
"""

import asyncio
import json
import os
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from relevo.contracts.grants import inbox_prefix
from relevo.stack.bench import worker
from relevo.stack.bench.figures import summarise
from relevo.stack.errors import Exit, StackError

_BATCH = 1000
_EXPIRES_SECONDS = 5.0
_REPORT_SECONDS = 0.2
_IDLE_SECONDS = 60
COUNTED = ("messages_in", "wait_in_queue", "rules_executed")
"""Measured, assigned, automated: the metrics that say so."""


class Tally:
    """What one run's facts say. Facts of messages that were due before ``since`` belong to another run."""

    def __init__(self, inbox_id: str, since: float) -> None:
        self._inbox = inbox_id
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
        # Facts of assignments name no inbox.
        if metric not in self.counts or fact["dimensions"].get("inbox_id") not in (self._inbox, None):
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


class Watcher:
    """Pulls an account's facts as they come."""

    def __init__(self, client: Client, account_id: str, credential: str, inbox_id: str) -> None:
        self._client = client
        self._subject = f"metrics.{account_id}.fact.*"
        self._name = credential
        self._inbox = inbox_id
        self._replies = client.new_inbox()
        self._wanted = 0
        self.tally = Tally(inbox_id, time.time())

    def begin(self) -> None:
        """Forget what was counted; from now on another run counts."""
        self.tally = Tally(self._inbox, time.time())

    async def start(self) -> None:
        """Make the consumer, from now on, and begin to pull."""
        await self._client.subscribe(self._replies, cb=self._on, pending_msgs_limit=-1, pending_bytes_limit=-1)
        config = {
            "name": self._name,
            "ack_policy": "none",
            "deliver_policy": "new",
            "filter_subject": self._subject,
            "mem_storage": True,
            "inactive_threshold": _IDLE_SECONDS * 1_000_000_000,
        }
        await self._client.request(f"$JS.API.CONSUMER.DELETE.METRICS.{self._name}", b"", timeout=5)
        reply = await self._client.request(
            f"$JS.API.CONSUMER.CREATE.METRICS.{self._name}.{self._subject}",
            json.dumps({"stream_name": "METRICS", "config": config, "action": "create"}).encode(),
            timeout=5,
        )
        if error := json.loads(reply.data).get("error"):
            raise StackError(f"the metrics consumer was refused: {error.get('description')}", code=Exit.FAILED)
        await self._pull()

    async def _pull(self) -> None:
        self._wanted = _BATCH
        request = {"batch": _BATCH, "expires": int(_EXPIRES_SECONDS * 1e9)}
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.METRICS.{self._name}", json.dumps(request).encode(), reply=self._replies
        )

    async def _on(self, message: Msg) -> None:
        if not message.reply:  # the request has ended: expired, or the consumer is away
            await self._pull()
            return
        self.tally.take(json.loads(message.data), time.time())
        self._wanted -= 1
        if self._wanted == 0:
            await self._pull()


async def main() -> None:
    """Told first where to read, then when a run begins and when its sum is wanted."""
    told = worker.commands()
    where = await anext(told)
    client = await nats.connect(
        where["nats_url"],
        user_credentials=where["credentials"],
        inbox_prefix=inbox_prefix(where["credential"]),
    )
    watcher = Watcher(client, where["account_id"], where["credential"], where["inbox_id"])
    await watcher.start()
    worker.answer(pid=os.getpid())
    reporting = asyncio.create_task(_report(watcher))
    async for command in told:
        if command["do"] == "begin":
            watcher.begin()
            worker.answer()
        else:
            worker.answer(**watcher.tally.summary(), cpu=time.process_time())
    reporting.cancel()
    await client.close()


async def _report(watcher: Watcher) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        worker.report(**watcher.tally.counts)


if __name__ == "__main__":
    worker.run(main)
