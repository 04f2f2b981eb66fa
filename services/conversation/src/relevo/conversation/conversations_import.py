"""Importing past conversations from JSON lines, a chunk at a time: what `importing` does with it in one transaction.

Nothing is sent and nothing follows: no command, no timer, no message's event; one event a conversation tells of it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from relevo.chassis import directory
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx
from relevo.chassis.problems import from_validation
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ContactCreated
from relevo.contracts.snapshots import ContactSnapshot, MessageSnapshot
from relevo.conversation import labels
from relevo.conversation.domain import history as past_ones
from relevo.conversation.domain.activity import line_of
from relevo.conversation.domain.contacts_import import KEYS, Failed, Fault, Wanted
from relevo.conversation.domain.csv_files import Record, decoded
from relevo.conversation.domain.history import Here, Imported, Past, PastConversation, Places
from relevo.conversation.domain.profile import Person
from relevo.conversation.store import conversations, history, imports, messages, profiles
from relevo.conversation.store.messages import StoredMessage
from relevo.conversation.store.rows import Key, Row
from relevo.kernel.identity import sender_key

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of a line, which is one conversation."""
CHUNK: Final = 500
"""Conversations of a transaction at most."""
_MESSAGES: Final = 2500
"""Messages of a transaction, about: with these it is over in a second, so that neither contacts nor labels wait long."""
_WINDOW: Final = 2 * MAX_LINE


async def chunk(tx: Tx, job: Row) -> None:
    """Import the next conversations of a file, or rehearse that."""
    account, id_ = job["account_id"], job["id"]
    data = await imports.window(tx, account, job["file_id"], job["next_offset"], _WINDOW)
    inboxes = await directory.account_inboxes(tx, account)
    places = Places(inboxes, job["inbox_ids"], job["region"])
    rows, taken, line = await asyncio.to_thread(_read, job, data, places)
    failed = [row for row in rows if isinstance(row, Failed)]
    wanted = [row for row in rows if isinstance(row, Past)]
    fresh, twice, known = await _fresh(tx, account, id_, wanted)
    failed += twice
    if job["state"] == "running" and fresh:
        await _write(tx, job, fresh)
    await history.name(tx, account, id_, {past.key: past.line for past in fresh})
    await imports.add_failures(tx, account, id_, failed)
    counts = {"created": len(fresh), "updated": 0, "unchanged": known, "skipped": 0, "failed": len(failed)}
    offset = job["next_offset"] + taken
    await imports.progress(tx, account, id_, offset=offset, line=line, counts=counts)
    if offset >= job["size"]:
        dry = job["state"] == "checking"
        await imports.end(tx, account, id_, "checked" if dry else "done")
        if not dry:
            await imports.drop_file(tx, account, job["file_id"])


def _read(job: Row, data: bytes, places: Places) -> tuple[list[Past | Failed], int, int]:
    """Lines of a window, how many bytes they are, and the number of the line after them."""
    rows: list[Past | Failed] = []
    at, line, said = 0, job["next_line"], 0
    moment = now()
    whole = job["next_offset"] + len(data) >= job["size"]
    while at < len(data) and len(rows) < CHUNK and said < _MESSAGES:
        end = data.find(b"\n", at)
        if end < 0:
            if not whole:
                break  # the window cuts it: the next one has it whole
            end = len(data)
        text = decoded(data[at:end]).strip()
        if text:
            row = read(line, text, places, moment)
            said += len(row.said.messages) if isinstance(row, Past) else 0
            rows.append(row)
        at, line = min(end + 1, len(data)), line + 1
    return rows, at, line


def read(line: int, text: str, places: Places, moment: datetime) -> Past | Failed:
    """One line as a past conversation, or everything that is wrong with it."""
    try:
        given = from_json(text)
        if isinstance(given, dict):
            # What a file of failed lines adds.
            given = {name: value for name, value in given.items() if not name.startswith("_")}
        said = PastConversation.model_validate_json(to_json(given))
    except ValidationError as error:
        faults = tuple(Fault(one.pointer, one.es, one.en) for one in from_validation(error.errors()).errors)
        faults = faults[: past_ones.MAX_FAULTS]
        return Failed(line, (text,), faults)
    except ValueError as error:
        reason = str(error)
        return Failed(line, (text,), (Fault("", f"No es JSON: {reason}.", f"It is not JSON: {reason}."),))
    row = past_ones.taken(line, text, said, places, moment)
    return row if isinstance(row, Past) else Failed(line, (text,), row)


async def _fresh(tx: Tx, account: str, import_id: str, wanted: Sequence[Past]) -> tuple[list[Past], list[Failed], int]:
    """The conversations that are new, those that this file has twice, and how many were here before it."""
    keys = {past.key for past in wanted}
    lines = await history.named(tx, account, import_id, keys)
    known = await history.known(tx, account, keys - lines.keys())
    fresh, twice = [], []
    before = 0
    for past in wanted:
        if past.key in known:
            before += 1
        elif (first := lines.setdefault(past.key, past.line)) != past.line:
            twice.append(Failed(past.line, (past.raw,), (past_ones.twice("/external_id", first),)))
        else:
            fresh.append(past)
    return fresh, twice, before


async def _write(tx: Tx, job: Row, fresh: Sequence[Past]) -> None:
    account, actor, moment = job["account_id"], job["actor"], now()
    names = sorted({label for past in fresh for label in past.labels})
    keys = await labels.take(tx, [labels.Use(account, label, actor) for label in names]) if names else {}
    contacts = await _contacts(tx, job, fresh)
    pairs = {past.line: (past.inbox.id, contacts[past.line].id) for past in fresh}
    sources = await history.sources(tx, account, pairs.values())
    numbers = iter((await conversations.new_numbers(tx, {account: len(fresh)}))[account])
    agents = {one.email.lower(): (one.id, one.name) for one in await directory.agents(tx, account)}
    imported = [
        past_ones.become(
            past,
            Here(
                id=new_id(),
                number=next(numbers),
                contact=contacts[past.line],
                known_source=sources.get(pairs[past.line]),
                labels=tuple(dict.fromkeys(keys[account, label] for label in past.labels)),
                agents=agents,
                import_id=job["id"],
            ),
            new_id,
            sender_key,
        )
        for past in fresh
    ]
    await history.insert(tx, imported)
    crash_point("conversations_import.between_conversations_and_messages")
    said = [StoredMessage(account, message) for one in imported for message in one.messages]
    await messages.save(tx, [*said, *(_line(account, one, actor, moment) for one in imported)])
    await profiles.active(tx, _last_said(account, imported))
    for one in imported:
        state = one.state
        tx.emit(one.event, account=account, entity=state.id, actor=actor, sequence=state.sequence, time=moment)


async def _contacts(tx: Tx, job: Row, fresh: Sequence[Past]) -> dict[int, ContactSnapshot]:
    """Whose each line is: who is known by identifier, else e-mail, else phone; the others come to be."""
    account, moment = job["account_id"], now()
    asked = [Wanted(Record(past.line, ()), past.contact, {}, ()) for past in fresh]
    by_key: dict[tuple[str, str], Person] = {}

    def keep(person: Person) -> Person:
        for name in KEYS:
            if value := getattr(person, name):
                by_key.setdefault((name, value), person)
        return person

    for person in await imports.matches(tx, account, asked):
        keep(person)
    found: dict[int, ContactSnapshot] = {}
    new: list[Person] = []
    for past in fresh:
        keys = [(name, past.contact[name]) for name in KEYS if name in past.contact]
        whose = next((by_key[key] for key in keys if key in by_key), None)
        if whose is None:
            whose = keep(Person(id=new_id(), account_id=account, created_at=moment, **past.contact))  # type: ignore[arg-type]
            new.append(whose)
        found[past.line] = whose.snapshot
    await profiles.insert(tx, new, moment)
    for person in new:
        told = ContactCreated(contact=person.snapshot, profile=person.profile, origin="import")
        tx.emit(told, account=account, entity=person.id, actor=job["actor"], sequence=1, time=moment)
    return found


def _line(account: str, one: Imported, actor: str, moment: datetime) -> StoredMessage:
    """The line that tells who brought it, after everything that was said."""
    line = line_of(one.event)
    assert line is not None
    message = MessageSnapshot(
        id=new_id(),
        conversation_id=one.state.id,
        kind="activity",
        sequence=one.state.sequence,
        text="",
        author=actor,
        occurred_at=moment,
        created_at=moment,
    )
    return StoredMessage(account, message, activity=to_json({"code": line.code, **line.values}).decode())


def _last_said(account: str, imported: Sequence[Imported]) -> dict[Key, datetime]:
    last: dict[Key, datetime] = {}
    for one in imported:
        times = [message.created_at for message in one.messages if message.kind == "incoming"]
        if times:
            key = (account, one.state.contact.id)
            last[key] = max(times[-1], last.get(key, times[-1]))
    return last
