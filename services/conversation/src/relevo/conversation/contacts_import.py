"""The worker that imports contacts: chunk by chunk, each in one transaction with the progress that tells of it.

Killed anywhere, another replica goes on at the first row that is not committed. A dry run goes the same way and
writes what it would have done where nobody else sees it.
"""

import asyncio
from dataclasses import replace
from typing import Final

import psycopg.errors

from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described, is_transient
from relevo.chassis.service import Runtime
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ContactCreated, ContactUpdated
from relevo.conversation import labels
from relevo.conversation.domain.attributes import Definition
from relevo.conversation.domain.contacts_import import Columns, Failed, Outcome, Wanted, work
from relevo.conversation.domain.csv_files import WINDOW, Place, Window
from relevo.conversation.domain.csv_files import read as read_csv
from relevo.conversation.store import attributes, imports, profiles
from relevo.conversation.store.rows import Row

CHUNK: Final = 1000
"""Rows of a transaction: about a tenth of a second, so that neither the contacts it locks nor the loop wait long."""

_IDLE_SECONDS: Final = 1.0


async def run(runtime: Runtime) -> None:
    """Work on what there is, until the process stops. Any number of replicas may do it."""
    while True:
        try:
            worked = await step(runtime.database)
        except Exception as error:  # noqa: BLE001  (the database was away, or somebody wrote the same contact: again)
            runtime.log.warning("import_again", error=described(error))
            worked = False
        if not worked:
            await asyncio.sleep(_IDLE_SECONDS)


async def step(database: Database) -> bool:
    """Import one chunk; tells whether there was one. Raises what a lost database or a lost race raises."""
    job: Row | None = None
    try:
        async with database.begin(door="imports") as tx:
            job = await imports.take(tx)
            if job is None:
                return False
            await tx.enter(job["account_id"])
            await _chunk(tx, job)
            crash_point("contacts_import.before_commit")
        crash_point("contacts_import.after_commit")
    except Exception as error:
        if job is None or is_transient(error) or isinstance(error, psycopg.errors.UniqueViolation):
            raise
        # The chunk's own fault: again it would fail again. What is committed stays, the rest can be started anew.
        async with database.begin(job["account_id"]) as tx:
            await imports.end(tx, job["account_id"], job["id"], "failed", described(error))
    return True


async def _chunk(tx: Tx, job: Row) -> None:
    account, id_ = job["account_id"], job["id"]
    data = await imports.window(tx, account, job["file_id"], job["next_offset"], WINDOW)
    definitions = await attributes.definitions(tx, account, "contact")
    window, rows = await asyncio.to_thread(_read, job, data, definitions)
    dry = job["state"] == "checking"
    named = sorted({name for row in rows if isinstance(row, Wanted) for name in row.labels})
    if named:
        uses = () if dry else [labels.Use(account, name, job["actor"]) for name in named]
        keys = await labels.take(tx, uses, ((account, name) for name in named))
        rows = [
            replace(row, labels=tuple(keys[account, name] for name in row.labels)) if isinstance(row, Wanted) else row
            for row in rows
        ]
    known = await (imports.rehearsed(tx, account, id_, rows) if dry else imports.matches(tx, account, rows))
    done = work(rows, known, mode=job["mode"], account_id=account, make_id=new_id, now=now())
    if dry:
        await imports.rehearse(tx, account, id_, [*done.created, *(person for person, _ in done.updated)])
    else:
        await _write(tx, job, done)
    await imports.add_failures(tx, account, id_, done.failed)
    await imports.progress(tx, account, id_, offset=window.next.offset, line=window.next.line, counts=done.counts)
    if window.next.offset >= job["size"]:
        await imports.end(tx, account, id_, "checked" if dry else "done")
        if not dry:
            await imports.drop_file(tx, account, job["file_id"])


def _read(job: Row, data: bytes, definitions: dict[str, Definition]) -> tuple[Window, list[Wanted | Failed]]:
    start = Place(job["next_offset"], job["next_line"])
    last = job["next_offset"] + len(data) >= job["size"]
    window = read_csv(data, start, job["delimiter"], last=last, limit=CHUNK)
    targets = [target or None for target in job["columns"]]
    columns = Columns(job["header"], targets, definitions, job["region"])
    return window, [columns.read(record) for record in window.records]


async def _write(tx: Tx, job: Row, done: Outcome) -> None:
    account, actor = job["account_id"], job["actor"]
    moment = now()
    await profiles.release(tx, account, done.released)
    await profiles.insert(tx, done.created, moment)
    await profiles.update(tx, [person for person, _ in done.updated])
    crash_point("contacts_import.between_contacts_and_events")
    for person in done.created:
        told = ContactCreated(contact=person.snapshot, profile=person.profile, origin="import")
        tx.emit(told, account=account, entity=person.id, actor=actor, sequence=1, time=moment)
    for person, changed in done.updated:
        edited = ContactUpdated(contact=person.snapshot, profile=person.profile, changed=changed)
        tx.emit(edited, account=account, entity=person.id, actor=actor, sequence=person.sequence, time=moment)
