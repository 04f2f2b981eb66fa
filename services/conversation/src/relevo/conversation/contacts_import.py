"""Importing contacts from a CSV file, a chunk at a time: what `importing` does with it in one transaction."""

import asyncio
from dataclasses import replace
from typing import Final

from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx
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


async def chunk(tx: Tx, job: Row) -> None:
    """Import the next rows of a file of contacts, or rehearse that."""
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
