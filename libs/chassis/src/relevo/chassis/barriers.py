"""What erasing people and dropping accounts share: where streams ended, whether that is handled, who changes the log now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import psycopg
from sqlalchemy import text

from relevo.chassis.archive import LOCK
from relevo.chassis.bus import Bus, StoredMessage
from relevo.chassis.database import Database
from relevo.contracts.catalogue import read_by, reader_filter
from relevo.contracts.streams import BY_NAME, Stream

_CLOCKS: Final = timedelta(seconds=5)
_POSITIONS = text("select p, seq from position where stream = :stream")
# What was stored before a message, and not recorded yet, would be behind a hole that nobody could fill.
_UNRECORDED = text("select min(created_at) as at from outbox where stream = :stream and stream_seq is null")


@asynccontextmanager
async def alone(database_url: str, service: str, what: str) -> AsyncIterator[bool]:
    """Whether nobody else changes what the log consists of at this moment; nobody begins to meanwhile."""
    async with await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, application_name=f"relevo-{service}-{what}", connect_timeout=5
    ) as connection:
        row = await (await connection.execute("select pg_try_advisory_lock(%s, 0)", (LOCK,))).fetchone()
        yield bool(row and row[0])


class Barriers:
    """The streams as one service reads them."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database

    async def ends(self) -> dict[str, int]:
        """The last sequence of every stream that the service reads."""
        return {
            stream.name: int((await self._bus.stream_state(stream))["last_seq"])
            for stream in read_by(self._bus.service)
        }

    async def past(self, barrier: dict[str, int]) -> bool:
        """Whether everything is handled that the streams held then."""
        for name, end in barrier.items():
            stream = BY_NAME[name]
            for row in await self._database.single(_POSITIONS, {"stream": name}):
                if row.seq >= end:
                    continue
                subject = reader_filter(self._bus.service, stream, row.p)
                waiting = await self._bus.next_message(stream, row.seq + 1, subject)
                if waiting is not None and waiting.seq <= end:
                    return False
        return True

    async def may_delete(self, message: StoredMessage, stream: Stream) -> bool:
        """Whether nothing of ours that is before a message in its stream is still to be recorded."""
        unrecorded = (await self._database.single(_UNRECORDED, {"stream": stream.name})).one().at
        return unrecorded is None or unrecorded > message.time + _CLOCKS

    async def stored(self, stream: Stream, subject: str, end: int) -> AsyncIterator[StoredMessage]:
        """The messages of a stream up to ``end`` whose stored subject matches."""
        seq = 1
        while (message := await self._bus.next_message(stream, seq, subject)) is not None and message.seq <= end:
            yield message
            seq = message.seq + 1
