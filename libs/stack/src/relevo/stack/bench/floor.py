"""The floor: one process that writes and publishes what the stack did for a message, in batches, without any logic.

It says what these servers, on this machine at this moment, can do at best with durable writes; the stack's own rate
over it is the share that is left after everything the stack does beside writing.
"""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import Any

import nats
import psycopg
from nats.aio.client import Client
from psycopg import sql

from relevo.contracts.base import new_id, now
from relevo.contracts.grants import inbox_prefix
from relevo.stack.bench import worker
from relevo.stack.errors import Exit, StackError

DATABASE = "relevo_bench_floor"
STREAM = "BENCH_FLOOR"
USER = "bench-floor"
SUBJECT = "benchfloor.events"
_MESSAGES = 200
"""Customer messages in one transaction."""
_BATCH = 500
"""Events in one atomic batch at most, as many as a relay publishes at once."""
_LANES = 2
_STREAM_BYTES = 1024**3

_TABLES = """
CREATE TABLE rows (
    id uuid PRIMARY KEY, account_id uuid NOT NULL, entity uuid NOT NULL, sequence bigint NOT NULL, body text NOT NULL,
    at timestamptz NOT NULL
);
CREATE UNIQUE INDEX ON rows (entity, sequence);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL, subject text NOT NULL,
    headers text NOT NULL, body bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);
"""
_ROWS = "INSERT INTO rows SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::timestamptz[])"
_OUTBOX = (
    "INSERT INTO outbox (event_id, subject, headers, body)"
    " SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bytea[])"
)
_TEXT = (
    "Hola, quería saber cuándo llega mi pedido número 48213; lo hice ayer por la tarde y pagué con tarjeta. Gracias."
)


@dataclass(frozen=True, slots=True)
class Share:
    """What the stack wrote for one customer message: rows beside the outbox's, events, and an event's bytes."""

    rows: float
    events: float
    event_bytes: int


def counts(share: Share, messages: int) -> tuple[int, int]:
    """Rows and events of so many messages; at least one of each."""
    return max(round(share.rows * messages), 1), max(round(share.events * messages), 1)


class Floor:
    """Two lanes of the same loop in one process: insert and commit, then publish."""

    def __init__(self, dsn: str, client: Client, share: Share) -> None:
        self._dsn = dsn
        self._client = client
        self._rows, self._events = counts(share, _MESSAGES)
        headers = {
            "ce-specversion": "1.0",
            "ce-type": "relevo.conversation.message-created.v1",
            "ce-source": "conversation",
            "relevo-account": new_id(),
        }
        self._headers = headers
        overhead = sum(len(name) + len(value) + 4 for name, value in headers.items()) + len(SUBJECT)
        self._body = b"x" * max(share.event_bytes - overhead, 1)
        self.messages = 0

    async def run(self, seconds: float) -> float:
        """Messages a second."""
        began = time.monotonic()
        await asyncio.gather(*(self._lane(began + seconds) for _ in range(_LANES)))
        return self.messages / (time.monotonic() - began)

    async def _lane(self, end: float) -> None:
        async with await psycopg.AsyncConnection.connect(self._dsn) as connection:
            while time.monotonic() < end:
                ids = await self._insert(connection)
                for start in range(0, len(ids), _BATCH):
                    await self._publish(ids[start : start + _BATCH])
                self.messages += _MESSAGES

    async def _insert(self, connection: psycopg.AsyncConnection[Any]) -> list[str]:
        rows, events = self._rows, self._events
        account, moment = self._headers["relevo-account"], now()
        ids = [new_id() for _ in range(events)]
        keys = [new_id() for _ in range(rows)]
        async with connection.transaction():
            await connection.execute(
                _ROWS, (keys, [account] * rows, keys, list(range(rows)), [_TEXT] * rows, [moment] * rows)
            )
            await connection.execute(
                _OUTBOX,
                (
                    ids,
                    [SUBJECT] * events,
                    [json.dumps({**self._headers, "ce-id": i}) for i in ids],
                    [self._body] * events,
                ),
            )
        return ids

    async def _publish(self, ids: list[str]) -> None:
        batch = new_id()
        size = len(ids)
        for number, event_id in enumerate(ids, start=1):
            headers = {
                **self._headers,
                "Nats-Msg-Id": event_id,
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(number),
            }
            if number < size:
                await self._client.publish(SUBJECT, self._body, headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        reply = await self._client.request(SUBJECT, self._body, timeout=20, headers=headers)
        if error := json.loads(reply.data).get("error"):
            raise StackError(f"the broker refused a batch of the floor: {error.get('description')}", code=Exit.FAILED)


async def make_stream(client: Client) -> None:
    """The scratch stream, empty: stored on disk like the others."""
    await drop_stream(client)
    config = {
        "name": STREAM,
        "subjects": [SUBJECT],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_bytes": _STREAM_BYTES,
        "allow_atomic": True,
        "num_replicas": 1,
    }
    reply = await client.request(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(config).encode(), timeout=10)
    if error := json.loads(reply.data).get("error"):
        raise StackError(f"the scratch stream was refused: {error.get('description')}", code=Exit.FAILED)


async def drop_stream(client: Client) -> None:
    """Remove the scratch stream, if it is there."""
    await client.request(f"$JS.API.STREAM.DELETE.{STREAM}", b"", timeout=10)


def make_database(superuser_dsn: str, name: str) -> None:
    """A scratch database, empty."""
    drop_database(superuser_dsn, name)
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def drop_database(superuser_dsn: str, name: str) -> None:
    """Remove a scratch database, if it is there."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def main() -> None:
    """Told where, then how much a message is and for how long."""
    told = worker.commands()
    where = await anext(told)
    client = await nats.connect(
        where["nats_url"],
        user_credentials=where["credentials"],
        inbox_prefix=inbox_prefix(USER),
        pending_size=64 * 1024 * 1024,
    )
    await make_stream(client)
    async with await psycopg.AsyncConnection.connect(where["dsn"], autocommit=True) as connection:
        await connection.execute(_TABLES)
    worker.answer(pid=os.getpid())
    async for command in told:
        floor = Floor(where["dsn"], client, Share(**command["share"]))
        cpu = time.process_time()
        rate = await floor.run(command["seconds"])
        worker.answer(rate=rate, messages=floor.messages, cpu=time.process_time() - cpu)
    await drop_stream(client)
    await client.close()


if __name__ == "__main__":
    worker.run(main)
