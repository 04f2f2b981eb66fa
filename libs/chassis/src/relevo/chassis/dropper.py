"""The dropper: takes a whole account out of a service's files, streams, tables, log and segments.

Steps, each of which commits how far it is and can be done twice, so that a process that dies is followed by one that
goes on:

wait      for a while, and until what was in the streams when it was told is handled; the reader refuses what comes
files     what is kept outside of the database, while its tables still name it
messages  of streams that this service keeps: deleted, and overwritten; what others said, in the sweep only
log       rows of the outbox that are in their streams, and of the dead letters
segments  written anew without the account's rows, under another name; the manifest names that one
tables    every row of every table that has an account
objects   the segments that are no longer named

Readers that are behind are told by the log what stood in a hole of a stream (`Bus.begins`): of an account that is gone,
nothing. The relay knows why its lanes end earlier (`Reconciler`). The archive's lock is held meanwhile.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import text

from relevo.chassis import manifest
from relevo.chassis.barriers import Barriers
from relevo.chassis.bus import Bus, StoredMessage
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx
from relevo.chassis.dropping import Drop, drop_rows
from relevo.chassis.objects import ObjectStore
from relevo.chassis.redacting import rows_of_account, written_without_account
from relevo.chassis.segments import Segment, read_block
from relevo.chassis.stepwise import AGAIN, NotYet, Stepwise
from relevo.contracts.accounts import AccountDropped, RowsDropped
from relevo.contracts.base import now
from relevo.contracts.grants import cleared_by, filled_by_others
from relevo.contracts.identity import PLATFORM
from relevo.contracts.streams import BY_NAME, Stream

log = structlog.get_logger("relevo.dropper")

PAGE: Final = 2_000
"""Rows of the outbox that are gone through in one transaction."""
_AT_ONCE: Final = 32

_DUE = text("select * from account_drops where done_at is null and again_at <= now() order by again_at, id limit 1")
_STEP = text(
    """
    update account_drops set step = :step, barrier = cast(:barrier as jsonb), again_at = now()
    where id = cast(:id as uuid) and done_at is null
    """
)
_LATER = text("update account_drops set again_at = now() + cast(:wait as interval) where id = cast(:id as uuid)")
_COUNT = text(
    """
    update account_drops set log = log + :log, messages = messages + :messages, files = files + :files
    where id = cast(:id as uuid)
    """
)
_DONE = text(
    """
    update account_drops set done_at = now(), barrier = '{}' where id = cast(:id as uuid) and done_at is null
    returning tables, log, messages, files
    """
)
_ROWS = text(
    "select id, created_at, stream, subject, stream_seq from outbox where id > :after order by id limit :limit"
)
_REMOVE = text(
    """
    with gone as (
        delete from outbox o using unnest(cast(:ids as bigint[]), cast(:times as timestamptz[])) as k(id, created_at)
        where o.id = k.id and o.created_at = k.created_at and o.stream_seq is not null
        returning o.stream, o.p, o.event_id
    ), marked as (
        -- As of now the stream is the one that we know: who looks later compares with this moment.
        update relay_mark m set dropped = true, at = now() from gone
        where m.stream = gone.stream and m.p = gone.p and m.event_id = gone.event_id
    )
    select count(*) from gone
    """
)
_LETTERS = text(
    "select cast(id as text) as id, stream, subject from dead_letters"
    " where id > cast(:after as uuid) order by id limit :limit"
)
_NO_LETTERS = text("delete from dead_letters where id = any(cast(:ids as uuid[]))")
_MARK = text(
    """
    update relay_mark set dropped = true, at = now()
    where stream = :stream and p = :p and event_id = any(cast(:events as uuid[]))
    """
)
_OBJECT = text(
    "insert into account_drop_objects (drop_id, name) values (cast(:id as uuid), :name) on conflict do nothing"
)
_OBJECTS = text("select name from account_drop_objects where drop_id = cast(:id as uuid)")
_NO_OBJECT = text("delete from account_drop_objects where drop_id = cast(:id as uuid) and name = :name")
_FIRST: Final = "00000000-0000-0000-0000-000000000000"

Outside = Callable[[Database, str], Awaitable[int]]
"""Removes what a service keeps of an account outside of its database; answers how many files that were."""
Finish = Callable[[Tx, AccountDropped], Awaitable[None]]
"""What is done, in the transaction that ends it, in place of telling identity."""


class Dropper(Stepwise[Drop]):
    """Drops accounts from one service."""

    def __init__(
        self,
        *,
        bus: Bus,
        database: Database,
        database_url: str,
        store: ObjectStore | None,
        settle: timedelta,
        columns: Mapping[str, str],
        outside: Outside | None = None,
        finish: Finish | None = None,
    ) -> None:
        """``settle``: how long to wait for what was under way; ``columns``: of tables whose account has another name."""
        steps = {
            "wait": self._wait,
            "files": self._files,
            "messages": self._messages,
            "log": self._log,
            "segments": self._segments,
            "tables": self._tables,
            "objects": self._objects,
        }
        super().__init__("account_drop", database_url, bus.service, steps)
        self._bus = bus
        self._database = database
        self._barriers = Barriers(bus, database)
        self._store = store
        self._settle = settle
        self._columns = columns
        self._outside = outside
        self._finish_by = finish

    async def _later(self, work: Drop) -> None:
        await self._database.single(_LATER, {"id": work.account_id, "wait": AGAIN})

    async def _due(self) -> Drop | None:
        row = (await self._database.single(_DUE)).first()
        if row is None:
            return None
        return Drop(str(row.id), str(row.drop_id), row.asked_at, row.sweep, row.step, row.barrier)

    async def _go(self, drop: Drop, step: str, *, barrier: dict[str, int] | None = None) -> None:
        told = json.dumps(drop.barrier if barrier is None else barrier)
        await self._database.single(_STEP, {"id": drop.account_id, "step": step, "barrier": told})

    async def _count(self, drop: Drop, *, log: int = 0, messages: int = 0, files: int = 0) -> None:
        given = {"id": drop.account_id, "log": log, "messages": messages, "files": files}
        await self._database.single(_COUNT, given)

    async def _wait(self, drop: Drop) -> None:
        if not drop.barrier:
            await self._go(drop, "wait", barrier=await self._barriers.ends())
            raise NotYet
        if now() < drop.asked_at + self._settle or not await self._barriers.past(drop.barrier):
            raise NotYet
        await self._go(drop, "files")
        crash_point("dropping.before_files")

    async def _files(self, drop: Drop) -> None:
        if self._outside is not None:
            await self._count(drop, files=await self._outside(self._database, drop.account_id))
        await self._go(drop, "messages")

    async def _messages(self, drop: Drop) -> None:
        for stream in cleared_by(self._service):
            if drop.sweep or not filled_by_others(stream):
                await self._clear(drop, stream)
        await self._go(drop, "log")

    async def _clear(self, drop: Drop, stream: Stream) -> None:
        """Delete what a stream holds of the account, and overwrite it."""
        end = int((await self._bus.stream_state(stream))["last_seq"])
        page: list[StoredMessage] = []
        async for message in self._barriers.stored(stream, stream.stored(account=drop.account_id), end):
            page.append(message)
            if len(page) == _AT_ONCE:
                await self._delete(drop, stream, page)
                page = []
        await self._delete(drop, stream, page)

    async def _delete(self, drop: Drop, stream: Stream, page: list[StoredMessage]) -> None:
        if not page:
            return
        if not await self._barriers.may_delete(page[-1], stream):
            raise NotYet
        await asyncio.gather(*(self._bus.delete_message(stream, message.seq) for message in page))
        crash_point("dropping.after_messages")
        await self._count(drop, messages=len(page))

    async def _log(self, drop: Drop) -> None:
        """The rows that are in their streams; what still waits is published first, as rows go in their order."""
        after, waiting = 0, False
        while rows := (await self._database.single(_ROWS, {"after": after, "limit": PAGE})).all():
            theirs = [row for row in rows if BY_NAME[row.stream].account_in(row.subject) == drop.account_id]
            waiting = waiting or any(row.stream_seq is None for row in theirs)
            stored = [row for row in theirs if row.stream_seq is not None]
            if stored:
                given = {"ids": [row.id for row in stored], "times": [row.created_at for row in stored]}
                async with self._database.begin() as tx:
                    gone = (await tx.execute(_REMOVE, given)).scalar_one()
                    await tx.execute(_COUNT, {"id": drop.account_id, "log": gone, "messages": 0, "files": 0})
                crash_point("dropping.after_log")
            after = rows[-1].id
        await self._letters(drop)
        if waiting:
            raise NotYet
        await self._go(drop, "segments")

    async def _letters(self, drop: Drop) -> None:
        after = _FIRST
        while letters := (await self._database.single(_LETTERS, {"after": after, "limit": PAGE})).all():
            theirs = [letter.id for letter in letters if f".{drop.account_id}." in letter.subject]
            if theirs:
                await self._database.single(_NO_LETTERS, {"ids": theirs})
            after = letters[-1].id

    async def _segments(self, drop: Drop) -> None:
        for segment in await manifest.segments(self._database):
            await self._segment(drop, segment)
        await self._go(drop, "tables")
        crash_point("dropping.before_tables")

    async def _segment(self, drop: Drop, segment: Segment) -> None:
        """Write a segment anew without the account, if it is in it."""
        if self._store is None:
            raise OSError("there are segments, but no object store is configured; set RELEVO_ARCHIVE_URL")
        found = await rows_of_account(drop.account_id, segment, self._store)
        if not found:
            return
        anew = await written_without_account(drop.account_id, drop.drop_id, segment, self._store)
        crash_point("dropping.after_segment")
        for block in anew.blocks:
            await read_block(self._store, anew, block)
        async with self._database.begin() as tx:
            await manifest.replace(tx, segment, anew)
            await tx.execute(_MARK, {"stream": anew.stream, "p": anew.p, "events": found})
            await tx.execute(_OBJECT, {"id": drop.drop_id, "name": segment.name})
            await tx.execute(_COUNT, {"id": drop.account_id, "log": len(found), "messages": 0, "files": 0})

    async def _tables(self, drop: Drop) -> None:
        await drop_rows(self._database, drop.account_id, self._columns)
        await self._go(drop, "objects")
        crash_point("dropping.before_objects")

    async def _objects(self, drop: Drop) -> None:
        """Who read the manifest before it changed has read what it named by now."""
        for row in (await self._database.single(_OBJECTS, {"id": drop.drop_id})).all():
            assert self._store is not None
            await self._store.delete(row.name)
            await self._database.single(_NO_OBJECT, {"id": drop.drop_id, "name": row.name})
        await self._finish(drop)

    async def _finish(self, drop: Drop) -> None:
        async with self._database.begin() as tx:
            row = (await tx.execute(_DONE, {"id": drop.account_id})).first()
            if row is None:
                return
            told = AccountDropped(
                drop_id=drop.drop_id,
                account_id=drop.account_id,
                sweep=drop.sweep,
                tables=tuple(RowsDropped(table=name, rows=rows) for name, rows in sorted(row.tables.items())),
                log=row.log,
                messages=row.messages,
                files=row.files,
            )
            if self._finish_by is not None:
                await self._finish_by(tx, told)
            else:
                tx.emit(told, account=PLATFORM, entity=drop.account_id)
            crash_point("dropping.before_done")
        log.info("account_dropped", account=drop.account_id, sweep=drop.sweep, log=row.log, messages=row.messages)
