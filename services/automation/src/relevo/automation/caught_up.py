"""How far the story has been read: what a timer needs to know before it is believed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text

from relevo.chassis import Runtime, Tx
from relevo.chassis.timers import DueTimer, Timer, schedule_all
from relevo.contracts.base import now
from relevo.contracts.catalogue import reader_filter
from relevo.contracts.streams import Stream

_AGAIN: Final = timedelta(seconds=1)
_POSITION = text("select seq, at from position where stream = :stream and p = :p")


async def unread(tx: Tx, runtime: Runtime, stream: Stream, p: int, before: datetime) -> bool:
    """Whether a partition holds something that this service has yet to read, and that may have been stored before then."""
    last = await runtime.bus.last_message(stream, reader_filter(tx.service, stream, p))
    if last is None:
        return False
    row = (await tx.execute(_POSITION, {"stream": stream.name, "p": p})).first()
    return row is None or (row.seq < last.seq and row.at < before)


async def behind(tx: Tx, runtime: Runtime, stream: Stream, before: datetime) -> bool:
    """Whether any partition of a stream holds something unread that may have been stored before then."""
    for p in range(stream.partitions):
        if await unread(tx, runtime, stream, p, before):
            return True
    return False


async def put_off(tx: Tx, kind: str, later: Sequence[DueTimer]) -> None:
    """What is on its way may make them moot: they ring again in a moment."""
    moment = now() + _AGAIN
    await schedule_all(tx, kind, [Timer(one.key, moment, one.payload, one.account_id) for one in later])


async def believed(tx: Tx, runtime: Runtime, kind: str, stream: Stream, due: Sequence[DueTimer]) -> list[DueTimer]:
    """Those of the timers before which everything is read; the others, whose partition holds something unread that was stored
    before they rang, are put off.

    Their payload names the ``conversation`` that they are about, and when they were to ring, as ``at``.
    """
    of: dict[int, list[DueTimer]] = {}
    for timer in due:
        p = stream.partition_of(account=timer.account_id, entity=timer.payload["conversation"])
        of.setdefault(p, []).append(timer)
    found: list[DueTimer] = []
    later: list[DueTimer] = []
    for p, timers in of.items():
        latest = max(datetime.fromisoformat(timer.payload["at"]) for timer in timers)
        (later if await unread(tx, runtime, stream, p, latest) else found).extend(timers)
    await put_off(tx, kind, later)
    return found
