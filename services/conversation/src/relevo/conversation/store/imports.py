"""Imports of contacts and of past conversations: the file in parts, the progress, the failures, what a dry run has seen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from pydantic_core import from_json, to_json
from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.contacts_import import KEYS, Failed, Wanted
from relevo.conversation.domain.profile import Person
from relevo.conversation.store.profiles import person_of
from relevo.conversation.store.rows import Row, plain

Kind = Literal["contacts", "conversations"]
"""What the file of an import holds."""

PART: Final = 1024 * 1024
"""Bytes of a part; only the last one has less."""

_COLUMNS: Final = """
    cast(id as text) as id, cast(account_id as text) as account_id, actor, actor_name, file_name, state,
    cast(file_id as text) as file_id, size, delimiter, header, start_offset, start_line, columns, mode, region,
    kind, cast(inbox_ids as text[]) as inbox_ids, next_offset, next_line, created, updated, unchanged, skipped, failed, error, created_at, started_at, finished_at
"""
_MINE: Final = "id = cast(:id as uuid) and account_id = cast(:account as uuid)"
_ADD = text(
    f"""
    insert into contact_imports (id, account_id, actor, actor_name, file_name, kind, state, created_at)
    values (cast(:id as uuid), cast(:account as uuid), :actor, :actor_name, :file_name, :kind, 'new', now())
    returning {_COLUMNS}
    """
)
_READ = text(f"select {_COLUMNS} from contact_imports where {_MINE} and kind = :kind")
_LOCK = text(f"select {_COLUMNS} from contact_imports where {_MINE} and kind = :kind for update")
_PAGE = text(
    f"""
    select {_COLUMNS} from contact_imports
    where account_id = cast(:account as uuid) and kind = :kind
        and (cast(:after as uuid) is null or id < cast(:after as uuid))
    order by id desc limit :limit
    """
)
_ADD_PART = text(
    "insert into contact_import_parts (account_id, file_id, n, data) "
    "values (cast(:account as uuid), cast(:file as uuid), :n, :data)"
)
_PARTS = text(
    """
    select data from contact_import_parts
    where account_id = cast(:account as uuid) and file_id = cast(:file as uuid) and n between :first and :last order by n
    """
)
_DROP_FILE = text(
    "delete from contact_import_parts where account_id = cast(:account as uuid) and file_id = cast(:file as uuid)"
)
_UPLOADED = text(
    f"""
    update contact_imports
    set state = 'uploaded', file_id = cast(:file as uuid), size = :size, delimiter = :delimiter,
        header = cast(:header as text[]), columns = cast(:columns as text[]), start_offset = :offset,
        start_line = :line, error = null
    where {_MINE} returning {_COLUMNS}
    """
)
_BEGIN = text(
    f"""
    update contact_imports
    set state = :state, columns = cast(:columns as text[]), mode = :mode, region = :region,
        inbox_ids = cast(:inboxes as uuid[]),
        next_offset = start_offset, next_line = start_line, created = 0, updated = 0, unchanged = 0, skipped = 0,
        failed = 0, error = null, started_at = now(), finished_at = null, worked_at = null
    where {_MINE} returning {_COLUMNS}
    """
)
_FORGET = (
    text(
        "delete from contact_import_failures where import_id = cast(:id as uuid) and account_id = cast(:account as uuid)"
    ),
    text(
        "delete from contact_import_previews where import_id = cast(:id as uuid) and account_id = cast(:account as uuid)"
    ),
    text(
        "delete from conversation_import_keys where import_id = cast(:id as uuid) and account_id = cast(:account as uuid)"
    ),
)
_END = text(
    f"update contact_imports set state = :state, error = :error, finished_at = now() where {_MINE} returning {_COLUMNS}"
)
# Whose work was longest ago: many imports take turns, chunk by chunk.
_TAKE = text(
    f"""
    select {_COLUMNS} from contact_imports where state in ('checking', 'running')
    order by worked_at nulls first limit 1 for update skip locked
    """
)
_PROGRESS = text(
    f"""
    update contact_imports
    set next_offset = :offset, next_line = :line, created = created + :created, updated = updated + :updated,
        unchanged = unchanged + :unchanged, skipped = skipped + :skipped, failed = failed + :failed,
        worked_at = clock_timestamp()
    where {_MINE}
    """
)
_ADD_FAILURES = text(
    """
    insert into contact_import_failures (account_id, import_id, line, cells, faults)
    select cast(:account as uuid), cast(:id as uuid), r.line, r.cells, r.faults
    from json_to_recordset(cast(:rows as json)) as r(line integer, cells text[], faults jsonb)
    """
)
_FAILURES = text(
    """
    select line, faults,
        case when cast(:cut as integer) is null then cells
            else array(select left(c, cast(:cut as integer)) from unnest(cells) with ordinality as k(c, n) order by n)
        end as cells
    from contact_import_failures
    where import_id = cast(:id as uuid) and account_id = cast(:account as uuid) and line > :after
    order by line limit :limit
    """
)
_OF_KEYS: Final = """(
    identifier = any(cast(:identifiers as text[])) or email = any(cast(:emails as text[]))
    or phone = any(cast(:phones as text[]))
)"""
_CONTACTS: Final = f"""
    select cast(id as text) as id, cast(account_id as text) as account_id, name, email, phone, language, labels, blocked,
        identifier, company, city, country, attributes, cast(owner_id as text) as owner_id,
        cast(owner_team_id as text) as owner_team_id, sequence, created_at
    from contacts where account_id = cast(:account as uuid) and {_OF_KEYS}
"""
_MATCHES = text(f"{_CONTACTS} order by id for no key update")
_REHEARSED = text(
    f"""
    select c.* from ({_CONTACTS}) c where not exists (
        select 1 from contact_import_previews p
        where p.import_id = cast(:id as uuid) and p.contact_id = cast(c.id as uuid)
    )
    """
)
_PREVIEWS = text(
    f"""
    select person from contact_import_previews
    where import_id = cast(:id as uuid) and account_id = cast(:account as uuid) and {_OF_KEYS}
    """
)
_ADD_PREVIEWS = text(
    """
    insert into contact_import_previews (account_id, import_id, contact_id, identifier, email, phone, person)
    select cast(:account as uuid), cast(:id as uuid), cast(p ->> 'id' as uuid), p ->> 'identifier', p ->> 'email',
        p ->> 'phone', p
    from jsonb_array_elements(cast(:persons as jsonb)) p
    on conflict (import_id, contact_id) do update
        set identifier = excluded.identifier, email = excluded.email, phone = excluded.phone, person = excluded.person
    """
)
_OLD_PARTS = text(
    """
    delete from contact_import_parts p where created_at < :before and not exists (
        select 1 from contact_imports i where i.file_id = p.file_id and i.created_at >= :before
            and i.state in ('uploaded', 'checked', 'checking', 'running')
    )
    """
)
_OLD_FAILURES = text(
    """
    delete from contact_import_failures f using contact_imports i where i.id = f.import_id and i.created_at < :before
    """
)


async def add(tx: Tx, account_id: str, kind: Kind = "contacts", **row: Any) -> Row:
    """A new import: id, actor, actor_name, file_name."""
    return next(plain(await tx.execute(_ADD, {"account": account_id, "kind": kind, **row})))


async def read(tx: Tx, account_id: str, import_id: str, kind: Kind = "contacts", *, lock: bool = False) -> Row | None:
    """One import of the account."""
    asked = {"account": account_id, "id": import_id, "kind": kind}
    return next(plain(await tx.execute(_LOCK if lock else _READ, asked)), None)


async def page(tx: Tx, account_id: str, limit: int, after: str | None, kind: Kind = "contacts") -> Sequence[Row]:
    """One page of the account's imports, the newest first, one row more than asked."""
    asked = {"account": account_id, "after": after, "limit": limit + 1, "kind": kind}
    return list(plain(await tx.execute(_PAGE, asked)))


async def add_part(tx: Tx, account_id: str, file_id: str, n: int, data: bytes) -> None:
    """Keep a part of a file."""
    await tx.execute(_ADD_PART, {"account": account_id, "file": file_id, "n": n, "data": data})


async def window(tx: Tx, account_id: str, file_id: str, offset: int, length: int) -> bytes:
    """The bytes of a file from `offset` on: `length` of them, or as many as there are."""
    first, last = offset // PART, (offset + length - 1) // PART
    asked = {"account": account_id, "file": file_id, "first": first, "last": last}
    found = b"".join((await tx.execute(_PARTS, asked)).scalars())
    return found[offset - first * PART :][:length]


async def drop_file(tx: Tx, account_id: str, file_id: str) -> None:
    """Forget a file."""
    await tx.execute(_DROP_FILE, {"account": account_id, "file": file_id})


async def uploaded(tx: Tx, account_id: str, import_id: str, **file: Any) -> Row:
    """An import that is locked has its file: file, size, delimiter, header, columns, offset, line."""
    return next(plain(await tx.execute(_UPLOADED, {"account": account_id, "id": import_id, **file})))


async def begin(
    tx: Tx,
    account_id: str,
    import_id: str,
    *,
    state: str,
    columns: Sequence[str | None] = (),
    mode: str = "create_and_update",
    region: str | None = None,
    inboxes: Sequence[str] | None = None,
) -> Row:
    """Start an import, or its dry run, from the first row."""
    asked = {"account": account_id, "id": import_id}
    for statement in _FORGET:
        await tx.execute(statement, asked)
    more: dict[str, Any] = {
        "state": state,
        "columns": [column or "" for column in columns],
        "mode": mode,
        "region": region,
    }
    more["inboxes"] = None if inboxes is None else list(inboxes)
    return next(plain(await tx.execute(_BEGIN, asked | more)))


async def end(tx: Tx, account_id: str, import_id: str, state: str, error: str | None = None) -> Row:
    """An import that is locked goes on no further; what a dry run has seen is forgotten."""
    asked = {"account": account_id, "id": import_id}
    for statement in _FORGET[1:]:
        await tx.execute(statement, asked)
    return next(plain(await tx.execute(_END, asked | {"state": state, "error": error})))


async def take(tx: Tx) -> Row | None:
    """An import that has work to do and that nobody works on at this moment, locked."""
    return next(plain(await tx.execute(_TAKE)), None)


async def progress(
    tx: Tx, account_id: str, import_id: str, *, offset: int, line: int, counts: Mapping[str, int]
) -> None:
    """Rows up to here are done."""
    await tx.execute(_PROGRESS, {"account": account_id, "id": import_id, "offset": offset, "line": line, **counts})


async def add_failures(tx: Tx, account_id: str, import_id: str, failed: Sequence[Failed]) -> None:
    """Keep rows that failed."""
    if failed:
        rows = [
            {
                "line": row.line,
                "cells": row.cells,
                "faults": [{"column": f.column, "es": f.es, "en": f.en} for f in row.faults],
            }
            for row in failed
        ]
        await tx.execute(_ADD_FAILURES, {"account": account_id, "id": import_id, "rows": to_json(rows).decode()})


async def failures(
    tx: Tx, account_id: str, import_id: str, after: int, limit: int, *, cut: int | None = None
) -> Sequence[Row]:
    """Rows that failed, by line, beyond a line; with ``cut`` no more than so many characters of each cell."""
    asked = {"account": account_id, "id": import_id, "after": after, "limit": limit, "cut": cut}
    return list(plain(await tx.execute(_FAILURES, asked)))


async def matches(tx: Tx, account_id: str, rows: Sequence[Wanted | Failed]) -> list[Person]:
    """The contacts that have an identifier, e-mail or phone of these rows, locked."""
    return [person_of(row) for row in plain(await tx.execute(_MATCHES, _keys(account_id, rows)))]


async def rehearsed(tx: Tx, account_id: str, import_id: str, rows: Sequence[Wanted | Failed]) -> list[Person]:
    """The same, as a dry run would have left them by now."""
    asked = _keys(account_id, rows) | {"id": import_id}
    found = [person_of(row) for row in plain(await tx.execute(_REHEARSED, asked))]
    seen = (await tx.execute(_PREVIEWS, asked)).scalars()
    return [*found, *(_person(one) for one in seen)]


async def rehearse(tx: Tx, account_id: str, import_id: str, persons: Sequence[Person]) -> None:
    """Remember contacts as a dry run would leave them."""
    if persons:
        rows = to_json([{name: getattr(one, name) for name in Person.__slots__} for one in persons]).decode()
        await tx.execute(_ADD_PREVIEWS, {"account": account_id, "id": import_id, "persons": rows})


async def forget(tx: Tx, files_before: datetime, failures_before: datetime) -> None:
    """Forget files that no import needs, and failed rows of old imports."""
    await tx.execute(_OLD_PARTS, {"before": files_before})
    await tx.execute(_OLD_FAILURES, {"before": failures_before})


def _keys(account_id: str, rows: Sequence[Wanted | Failed]) -> dict[str, Any]:
    wanted = [row.values for row in rows if isinstance(row, Wanted)]
    return {"account": account_id} | {
        f"{name}s": sorted({values[name] for values in wanted if name in values}) for name in KEYS
    }


def _person(row: Any) -> Person:
    document = from_json(row) if isinstance(row, str | bytes) else row
    return Person(**{**document, "labels": tuple(document["labels"])})
