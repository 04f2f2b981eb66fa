"""Filters of contacts as SQL, and saved ones: segments."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, Date, DateTime, Numeric, Text, case, cast, func, literal, select, text

from relevo.chassis.database import Tx
from relevo.conversation.domain.attributes import FIELD_TYPES, Definition
from relevo.conversation.domain.segments import FIELDS
from relevo.conversation.store.profiles import WITH_ACTIVITY
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import contact_activity, contacts
from relevo.kernel.conditions import Condition, FieldType, to_sql

COUNT_LIMIT: Final = 1000
"""Counts are exact up to here."""

_c = contacts.c
_OWN: Final = {name: _c[name] for name in FIELDS if name != "last_activity_at"} | {
    "last_activity_at": contact_activity.c.at
}
_COLUMNS: Final = (
    "cast(id as text) as id, name, shared, cast(agent_id as text) as agent_id, filter, version, created_at, updated_at"
)
_VISIBLE: Final = (
    "account_id = cast(:account as uuid) and (shared or agent_id is not distinct from cast(:agent as uuid))"
)
_LIST = text(f"select {_COLUMNS} from contact_segments where {_VISIBLE} order by name, id")
_READ = text(f"select {_COLUMNS} from contact_segments where {_VISIBLE} and id = cast(:id as uuid) for update")
_COUNT = text("select count(*) from contact_segments where account_id = cast(:account as uuid)")
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('segments ' || :account, 0))")
_SAVE = text(
    f"""
    insert into contact_segments (id, account_id, agent_id, name, shared, filter, version, created_at, updated_at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:agent_id as uuid), :name, :shared, cast(:filter as jsonb),
        :version, now(), now())
    on conflict (id) do update
        set name = excluded.name, shared = excluded.shared, filter = excluded.filter, version = excluded.version,
            updated_at = now()
    returning {_COLUMNS}
    """
)
_ALL = text(f"select {_COLUMNS} from contact_segments where account_id = cast(:account as uuid) order by id for update")
_REWRITE = text(
    """
    update contact_segments set filter = cast(:filter as jsonb), version = version + 1, updated_at = now()
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
    """
)
_DELETE = text("delete from contact_segments where account_id = cast(:account as uuid) and id = cast(:id as uuid)")


def filtered(condition: Condition, definitions: Mapping[str, Definition], now: datetime) -> ColumnElement[bool]:
    """The condition over contacts and their activity. Raises NotExpressible."""
    own = {f"attributes.{key}": _attribute(one) for key, one in definitions.items()}
    return to_sql(condition, {**_OWN, **own}, now=now)


def _attribute(definition: Definition) -> ColumnElement[Any]:
    # Whatever is stored, a value of another kind than the definition's is none at all, never an error.
    value = _c.attributes[definition.key]
    plain_text = _c.attributes[definition.key].astext
    kind = func.jsonb_typeof(value)
    match FIELD_TYPES[definition.kind]:
        case FieldType.NUMBER:
            return case((kind == "number", cast(plain_text, Numeric)))
        case FieldType.BOOLEAN:
            return case((kind == "boolean", cast(plain_text, Boolean)))
        case FieldType.DATETIME:
            fits = (kind == "string") & plain_text.op("~", is_comparison=True)(literal(r"^\d{4}-\d{2}-\d{2}$", Text))
            return case((fits, cast(cast(plain_text, Date), DateTime(timezone=True))))
        case _:
            return case((kind == "string", plain_text))


async def count(tx: Tx, account_id: str, conditions: Sequence[ColumnElement[bool]]) -> int:
    """How many contacts there are, at most COUNT_LIMIT + 1."""
    some = (
        select(literal(1))
        .select_from(WITH_ACTIVITY)
        .where(_c.account_id == account_id, _c.erased_at.is_(None), *conditions)
    )
    statement = select(func.count()).select_from(some.limit(COUNT_LIMIT + 1).subquery())
    return int((await tx.execute(statement)).scalar_one())


async def listed(tx: Tx, account_id: str, agent_id: str | None) -> Sequence[Row]:
    """The shared segments, and the agent's own."""
    return list(plain(await tx.execute(_LIST, {"account": account_id, "agent": agent_id})))


async def read(tx: Tx, account_id: str, agent_id: str | None, segment_id: str) -> Row | None:
    """One of them, locked."""
    asked = {"account": account_id, "agent": agent_id, "id": segment_id}
    return next(plain(await tx.execute(_READ, asked)), None)


async def lock_and_count(tx: Tx, account_id: str) -> int:
    """How many segments the account has; nobody makes another one until the transaction ends."""
    await tx.execute(_LOCK, {"account": account_id})
    return int((await tx.execute(_COUNT, {"account": account_id})).scalar_one())


async def save(tx: Tx, account_id: str, row: Mapping[str, Any]) -> Row:
    """Write a segment, new or locked; `filter` is JSON text."""
    return next(plain(await tx.execute(_SAVE, {"account": account_id, **row})))


async def all_of(tx: Tx, account_id: str) -> Sequence[Row]:
    """Everybody's, locked."""
    return list(plain(await tx.execute(_ALL, {"account": account_id})))


async def rewrite(tx: Tx, account_id: str, segment_id: str, wanted: Mapping[str, Any]) -> None:
    """Give a segment another filter."""
    await tx.execute(_REWRITE, {"account": account_id, "id": segment_id, "filter": json.dumps(wanted)})


async def delete(tx: Tx, account_id: str, segment_id: str) -> None:
    """Delete a segment."""
    await tx.execute(_DELETE, {"account": account_id, "id": segment_id})
