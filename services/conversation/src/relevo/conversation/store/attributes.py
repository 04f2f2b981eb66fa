"""Definitions of custom attributes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.attributes import Definition, Entity
from relevo.conversation.store.rows import Row, plain

_COLUMNS: Final = (
    "cast(id as text) as id, entity, key, name, description, kind, options, currency, version, created_at, deleted_at"
)
# Few an account; the lock on them all keeps their number bounded and a key from being defined twice.
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('attributes ' || :account, 0))")
_LIST = text(
    f"""
    select {_COLUMNS} from attribute_definitions
    where account_id = cast(:account as uuid) and (cast(:entity as text) is null or entity = :entity)
        and deleted_at is null
    order by entity, key
    """
)
_READ = text(
    f"""
    select {_COLUMNS} from attribute_definitions
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) and deleted_at is null
    for update
    """
)
_BY_KEY = text(
    f"""
    select {_COLUMNS} from attribute_definitions
    where account_id = cast(:account as uuid) and entity = :entity and key = any(cast(:keys as text[]))
    """
)
_SAVE = text(
    f"""
    insert into attribute_definitions (
        id, account_id, entity, key, name, description, kind, options, currency, version, created_at, deleted_at
    )
    select cast(:id as uuid), cast(:account as uuid), :entity, :key, :name, :description, :kind,
        cast(:options as text[]), :currency, :version, now(), :deleted_at
    on conflict (account_id, entity, key) do update
        set name = excluded.name, description = excluded.description, options = excluded.options,
            currency = excluded.currency, version = excluded.version, deleted_at = excluded.deleted_at
    returning {_COLUMNS}
    """
)


def definition_of(row: Mapping[str, Any]) -> Definition:
    """The definition within a row."""
    return Definition(row["key"], row["kind"], tuple(row["options"]), row["currency"])


async def definitions(tx: Tx, account_id: str, entity: Entity) -> dict[str, Definition]:
    """What is defined for an account's contacts or conversations, by key."""
    return {row["key"]: definition_of(row) for row in await listed(tx, account_id, entity)}


async def listed(tx: Tx, account_id: str, entity: Entity | None = None) -> Sequence[Row]:
    """The definitions of an account."""
    return list(plain(await tx.execute(_LIST, {"account": account_id, "entity": entity})))


async def lock(tx: Tx, account_id: str) -> None:
    """Let nobody else define attributes of this account until the transaction ends."""
    await tx.execute(_LOCK, {"account": account_id})


async def read(tx: Tx, account_id: str, definition_id: str) -> Row | None:
    """One definition, locked."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": definition_id})), None)


async def by_key(tx: Tx, account_id: str, entity: Entity, keys: Sequence[str]) -> dict[str, Row]:
    """Definitions by key, deleted ones too."""
    asked = {"account": account_id, "entity": entity, "keys": list(keys)}
    return {row["key"]: row for row in plain(await tx.execute(_BY_KEY, asked))}


async def save(tx: Tx, account_id: str, row: Mapping[str, Any]) -> Row:
    """Write a definition, new or locked; answers it as stored."""
    return next(plain(await tx.execute(_SAVE, {"account": account_id, **row})))
