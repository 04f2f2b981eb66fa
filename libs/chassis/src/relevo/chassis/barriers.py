"""What erasing people and dropping accounts ask of streams: where they ended, and whether that is handled."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from sqlalchemy import text

from relevo.chassis.bus import Bus, StoredMessage
from relevo.chassis.database import Database
from relevo.contracts.catalogue import read_by, reader_filter
from relevo.contracts.streams import BY_NAME, Stream

_CLOCKS: Final = timedelta(seconds=5)
_POSITIONS = text("select p, seq from position where stream = :stream")
# What was stored before a message, and not recorded yet, would be behind a hole that nobody could fill.
_UNRECORDED = text("select min(created_at) as at from outbox where stream = :stream and stream_seq is null")


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
