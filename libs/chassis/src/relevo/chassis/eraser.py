"""The eraser: takes a person out of a service's tables, its log, its segments, and the streams that it keeps.

Steps, each of which commits how far it is and can be done twice, so that a process that dies is followed by one that
goes on:

tables    what the service declared, in one transaction
log       rows of the outbox are redacted: the event stays, with its ids, numbers and times
segments  the same in the archive: a segment is written anew under another name, then the manifest names that one
wait      for a while, and until what was in the streams when it was told is handled: then nothing of it comes late
late      tables and what is new in the log, once more
messages  the redacted events are deleted, and overwritten, in the streams of our own; readers that are behind are told
          by our log what stood there (`Bus.begins`), and the relay knows why its lanes end earlier (`Reconciler`)
inbound   what they wrote, where this service keeps that stream
objects   the segments that are no longer named, and files
sweep     in streams that others fill: a request of its own, once all logs are done with the person

The archive's lock is held meanwhile: no day leaves the outbox for a segment between two looks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import text

from relevo.chassis import manifest
from relevo.chassis.barriers import Barriers
from relevo.chassis.bus import Bus
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx
from relevo.chassis.erasing import LATELY, Person, Personal, clean
from relevo.chassis.objects import ObjectStore
from relevo.chassis.redacting import rows_about, without, written_without
from relevo.chassis.segments import Segment, read_block
from relevo.chassis.stepwise import AGAIN, NotYet, Stepwise
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.erasure import PersonErased
from relevo.contracts.grants import kept_by, swept_by
from relevo.contracts.streams import BY_NAME, Stream

log = structlog.get_logger("relevo.eraser")

PAGE: Final = 2_000
"""Rows of the outbox that are gone through in one transaction."""
_LATE: Final = timedelta(minutes=10)
"""How long a transaction that began before an erasure may have taken to commit."""

_DUE = text(
    "select * from erasures where done_at is null and again_at <= now() order by again_at, asked_at, id limit 1"
)
_STEP = text(
    """
    update erasures set step = :step, place = :place, redacted = redacted + :redacted, deleted = deleted + :deleted,
        barrier = coalesce(cast(:barrier as jsonb), barrier), again_at = now()
    where id = cast(:id as uuid) and done_at is null
    """
)
_LATER = text("update erasures set again_at = now() + cast(:wait as interval) where id = cast(:id as uuid)")
_DONE = text(
    """
    update erasures set done_at = now(), barrier = '{}', deleted = deleted + :deleted
    where id = cast(:id as uuid) and done_at is null returning redacted, deleted
    """
)
_FORGOTTEN = text(
    f"""
    update erasures set senders = '[]'
    where account_id = cast(:account as uuid) and done_at < now() - interval '{LATELY}' and senders <> '[]'
    """
)
_ROWS = text(
    """
    select id, created_at, stream, cast(event_id as text) as event_id, subject, headers, body, stream_seq
    from outbox where id > :after and created_at >= :since order by id limit :limit
    """
)
_REWRITE = text(
    """
    update outbox o set body = k.body, headers = k.headers
    from unnest(cast(:ids as bigint[]), cast(:times as timestamptz[]), cast(:bodies as bytea[]), cast(:headers as text[]))
        as k(id, created_at, body, headers)
    where o.id = k.id and o.created_at = k.created_at
    """
)
_TO_DELETE = text(
    """
    insert into erasing_messages (erasure_id, account_id, stream, event_id, seq)
    select cast(:id as uuid), cast(:account as uuid), * from unnest(
        cast(:streams as text[]), cast(:events as uuid[]), cast(:seqs as bigint[]))
    on conflict (erasure_id, stream, event_id) do update set seq = excluded.seq
    """
)
_DELETING = text(
    """
    select m.stream, cast(m.event_id as text) as event_id, coalesce(o.stream_seq, m.seq) as seq,
           o.event_id is not null and o.stream_seq is null as waiting
    from erasing_messages m left join outbox o on o.event_id = m.event_id and o.stream = m.stream
    where m.erasure_id = cast(:id as uuid) order by m.stream, m.event_id limit 500
    """
)
_DELETED = text(
    "delete from erasing_messages where erasure_id = cast(:id as uuid) and stream = :stream and event_id = cast(:event as uuid)"
)
_OBJECT = text(
    """
    insert into erasing_objects (erasure_id, account_id, name)
    values (cast(:id as uuid), cast(:account as uuid), :name) on conflict do nothing
    """
)
_OBJECTS = text("select name from erasing_objects where erasure_id = cast(:id as uuid)")
_NO_OBJECT = text("delete from erasing_objects where erasure_id = cast(:id as uuid) and name = :name")
_ALWAYS: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Work:
    """An erasure that is due, and how far it is."""

    person: Person
    step: str
    place: int
    barrier: dict[str, int]
    sweep: bool


class Eraser(Stepwise[Work]):
    """Erases people from one service."""

    def __init__(
        self,
        *,
        bus: Bus,
        database: Database,
        database_url: str,
        store: ObjectStore | None,
        personal: Personal,
        settle: timedelta,
    ) -> None:
        """``settle``: how long to wait for what was under way when a person was erased."""
        steps = {
            "tables": self._tables,
            "log": self._log,
            "segments": self._segments,
            "wait": self._wait,
            "late": self._late,
            "messages": self._messages,
            "inbound": self._inbound,
            "objects": self._objects,
            "sweep": self._sweep,
        }
        super().__init__("erasure", database_url, bus.service, steps)
        self._bus = bus
        self._database = database
        self._barriers = Barriers(bus, database)
        self._store = store
        self._personal = personal
        self._settle = settle
        self._ours = {stream.name for stream in set(kept_by(bus.service)) - set(swept_by(bus.service))}
        """The streams of which we delete what we, or adapters, said; what other services said is swept later."""

    async def _due(self) -> Work | None:
        row = (await self._database.single(_DUE, door="erasures")).first()
        return None if row is None else Work(Person.of(row), row.step, row.place, row.barrier, row.sweep)

    async def _go(
        self,
        tx: Tx,
        person: Person,
        step: str,
        *,
        place: int = 0,
        redacted: int = 0,
        deleted: int = 0,
        barrier: dict[str, int] | None = None,
    ) -> None:
        told = None if barrier is None else json.dumps(barrier)
        given = {"id": person.erasure_id, "step": step, "place": place, "redacted": redacted, "deleted": deleted}
        await tx.execute(_STEP, given | {"barrier": told})

    async def _later(self, work: Work) -> None:
        given = {"id": work.person.erasure_id, "wait": AGAIN}
        await self._database.single(_LATER, given, accounts=(work.person.account_id,))

    # -- tables ---------------------------------------------------------------------------------------------------

    async def _tables(self, work: Work) -> None:
        barrier = await self._barriers.ends()
        async with self._database.begin(work.person.account_id) as tx:
            await clean(tx, self._personal, work.person)
            await self._go(tx, work.person, "log", barrier=barrier)
        crash_point("erasing.after_tables")

    # -- log ------------------------------------------------------------------------------------------------------

    async def _log(self, work: Work) -> None:
        await self._go_through(work, since=_ALWAYS, following="segments")

    async def _late(self, work: Work) -> None:
        """Once more, what handlers and requests wrote that had begun before it was told."""
        if not work.place:
            barrier = await self._barriers.ends()
            async with self._database.begin(work.person.account_id) as tx:
                await clean(tx, self._personal, work.person)
                await self._go(tx, work.person, "late", barrier=barrier)
        await self._go_through(work, since=work.person.asked_at - _LATE, following="messages")

    async def _go_through(self, work: Work, *, since: datetime, following: str) -> None:
        """The next rows of the outbox."""
        person = work.person
        async with self._database.begin(person.account_id) as tx:
            rows = (await tx.execute(_ROWS, {"after": work.place, "since": since, "limit": PAGE})).all()
            changed = []
            for row in rows:
                bare = without(person, row.subject, row.headers, bytes(row.body))
                if bare is not None:
                    changed.append((row, *bare))
            if changed:
                await tx.execute(
                    _REWRITE,
                    {
                        "ids": [row.id for row, _, _ in changed],
                        "times": [row.created_at for row, _, _ in changed],
                        "bodies": [body for _, _, body in changed],
                        "headers": [headers for _, headers, _ in changed],
                    },
                )
                await self._to_delete(tx, person, [(row.stream, row.event_id, row.stream_seq) for row, _, _ in changed])
            ended = len(rows) < PAGE
            place = 0 if ended else rows[-1].id
            await self._go(tx, person, following if ended else work.step, place=place, redacted=len(changed))
        crash_point("erasing.after_log")

    async def _to_delete(self, tx: Tx, person: Person, found: Sequence[tuple[str, str, int | None]]) -> None:
        ours = [one for one in found if one[0] in self._ours]
        if ours:
            given = {
                "streams": [stream for stream, _, _ in ours],
                "events": [event for _, event, _ in ours],
                "seqs": [seq for _, _, seq in ours],
            }
            await tx.execute(_TO_DELETE, {"id": person.erasure_id, "account": person.account_id, **given})

    # -- segments -------------------------------------------------------------------------------------------------

    async def _segments(self, work: Work) -> None:
        redacted = 0
        for segment in await manifest.segments(self._database):
            redacted += await self._segment(work.person, segment)
        async with self._database.begin(work.person.account_id) as tx:
            await self._go(tx, work.person, "wait", redacted=redacted)

    async def _segment(self, person: Person, segment: Segment) -> int:
        """Write a segment anew without the person, if they are in it; answers how many of its rows were changed."""
        if self._store is None:
            raise OSError("there are segments, but no object store is configured; set RELEVO_ARCHIVE_URL")
        found = await rows_about(person, segment, self._store)
        if not found:
            return 0
        anew = await written_without(person, segment, self._store)
        crash_point("erasing.after_segment")
        for block in anew.blocks:
            await read_block(self._store, anew, block)
        async with self._database.begin(person.account_id) as tx:
            await manifest.replace(tx, segment, anew)
            await tx.execute(_OBJECT, {"id": person.erasure_id, "account": person.account_id, "name": segment.name})
            await self._to_delete(tx, person, [(segment.stream, row.event_id, row.seq) for row in found])
        crash_point("erasing.after_manifest")
        return len(found)

    async def _objects(self, work: Work) -> None:
        """Who read the manifest before it changed has read what it named by now."""
        person = work.person
        for row in (
            await self._database.single(_OBJECTS, {"id": person.erasure_id}, accounts=(person.account_id,))
        ).all():
            assert self._store is not None
            await self._store.delete(row.name)
            crash_point("erasing.after_object")
            given = {"id": person.erasure_id, "name": row.name}
            await self._database.single(_NO_OBJECT, given, accounts=(person.account_id,))
        if self._personal.outside is not None:
            await self._personal.outside(self._database)
        await self._finish(work)

    # -- the bus --------------------------------------------------------------------------------------------------

    async def _wait(self, work: Work) -> None:
        if now() < work.person.asked_at + self._settle or not await self._barriers.past(work.barrier):
            raise NotYet
        async with self._database.begin(work.person.account_id) as tx:
            await self._go(tx, work.person, "late")

    async def _messages(self, work: Work) -> None:
        person = work.person
        while found := (
            await self._database.single(_DELETING, {"id": person.erasure_id}, accounts=(person.account_id,))
        ).all():
            deleted = 0
            for row in found:
                if row.waiting:
                    continue
                if row.seq is not None and not await self._delete(BY_NAME[row.stream], row.seq, row.event_id):
                    continue
                crash_point("erasing.after_message")
                given = {"id": person.erasure_id, "stream": row.stream, "event": row.event_id}
                await self._database.single(_DELETED, given, accounts=(person.account_id,))
                deleted += 1
            async with self._database.begin(person.account_id) as tx:
                await self._go(tx, person, "messages", deleted=deleted)
            if deleted < len(found):
                raise NotYet  # the relay has not recorded them yet
        async with self._database.begin(person.account_id) as tx:
            await self._go(tx, person, "inbound")

    async def _delete(self, stream: Stream, seq: int, event_id: str) -> bool:
        """Delete an event of ours from its stream; False when it cannot be now."""
        message = await self._bus.message_at(stream, seq)
        if message is None:
            return True
        if message.headers.get(MESSAGE_ID) != event_id:
            return False  # the stream went back: the relay is about to give it another number
        if not await self._barriers.may_delete(message, stream):
            return False
        await self._bus.delete_message(stream, seq)
        return True

    async def _inbound(self, work: Work) -> None:
        """What they wrote, as adapters brought it; all of it is handled."""
        if not await self._barriers.past(work.barrier):
            raise NotYet
        deleted = 0
        if streams.INBOUND.name in self._ours:
            for inbox, key in work.person.senders:
                subject = streams.INBOUND.stored(account=work.person.account_id, inbox=inbox, sender=key)
                end = work.barrier[streams.INBOUND.name]
                async for message in self._barriers.stored(streams.INBOUND, subject, end):
                    if message.time <= work.person.asked_at:
                        await self._bus.delete_message(streams.INBOUND, message.seq)
                        deleted += 1
        async with self._database.begin(work.person.account_id) as tx:
            await self._go(tx, work.person, "objects", deleted=deleted)

    async def _sweep(self, work: Work) -> None:
        """What others told of the person in streams that we keep; their logs do not say it any more."""
        deleted = 0
        barrier = work.barrier or await self._barriers.ends()
        if not work.barrier:
            async with self._database.begin(work.person.account_id) as tx:
                await self._go(tx, work.person, "sweep", barrier=barrier)
        if not await self._barriers.past(barrier):
            raise NotYet
        for stream in swept_by(self._service):
            subject = stream.stored(account=work.person.account_id)
            end = barrier.get(stream.name) or int((await self._bus.stream_state(stream))["last_seq"])
            async for message in self._barriers.stored(stream, subject, end):
                if without(work.person, message.subject, json.dumps(message.headers), message.body) is not None:
                    await self._bus.delete_message(stream, message.seq)
                    deleted += 1
        await self._finish(work, deleted=deleted)

    async def _finish(self, work: Work, *, deleted: int = 0) -> None:
        person = work.person
        async with self._database.begin(person.account_id) as tx:
            row = (await tx.execute(_DONE, {"id": person.erasure_id, "deleted": deleted})).first()
            await tx.execute(_FORGOTTEN, {"account": person.account_id})
            if row is not None and self._personal.finish is not None:
                await self._personal.finish(tx, person, work.sweep)
            elif row is not None:
                told = PersonErased(
                    erasure_id=person.erasure_id,
                    contact_id=person.contact_id,
                    sweep=work.sweep,
                    redacted=row.redacted,
                    deleted=row.deleted,
                )
                tx.emit(told, account=person.account_id, entity=person.contact_id)
            crash_point("erasing.before_done")
        log.info("person_erased", account=person.account_id, contact=person.contact_id, sweep=work.sweep)
