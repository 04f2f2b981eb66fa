"""SQL of macros."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain

_COLUMNS: Final = (
    "cast(id as text) as id, name, shared, cast(agent_id as text) as agent_id, acts, version, created_at, updated_at"
)
_VISIBLE: Final = (
    "account_id = cast(:account as uuid) and (shared or agent_id is not distinct from cast(:agent as uuid))"
)
_LIST = text(f"select {_COLUMNS} from macros where {_VISIBLE} order by name, id")
_READ = text(f"select {_COLUMNS} from macros where {_VISIBLE} and id = cast(:id as uuid) for update")
_COUNT = text("select count(*) from macros where account_id = cast(:account as uuid)")
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('macros ' || :account, 0))")
_SAVE = text(
    f"""
    insert into macros (id, account_id, agent_id, name, shared, acts, version, created_at, updated_at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:agent_id as uuid), :name, :shared, cast(:acts as jsonb),
        :version, now(), now())
    on conflict (id) do update
        set name = excluded.name, shared = excluded.shared, acts = excluded.acts, version = excluded.version,
            updated_at = now()
    returning {_COLUMNS}
    """
)
_DELETE = text("delete from macros where account_id = cast(:account as uuid) and id = cast(:id as uuid)")


async def listed(tx: Tx, account_id: str, agent_id: str | None) -> Sequence[Row]:
    """The shared macros, and the agent's own."""
    return list(plain(await tx.execute(_LIST, {"account": account_id, "agent": agent_id})))


async def read(tx: Tx, account_id: str, agent_id: str | None, macro_id: str) -> Row | None:
    """One of them, locked."""
    asked = {"account": account_id, "agent": agent_id, "id": macro_id}
    return next(plain(await tx.execute(_READ, asked)), None)


async def lock_and_count(tx: Tx, account_id: str) -> int:
    """How many macros the account has; nobody makes another one until the transaction ends."""
    await tx.execute(_LOCK, {"account": account_id})
    return int((await tx.execute(_COUNT, {"account": account_id})).scalar_one())


async def save(tx: Tx, account_id: str, row: Mapping[str, Any]) -> Row:
    """Write a macro, new or locked; `acts` is JSON text."""
    return next(plain(await tx.execute(_SAVE, {"account": account_id, **row})))


async def delete(tx: Tx, account_id: str, macro_id: str) -> None:
    """Delete a macro."""
    await tx.execute(_DELETE, {"account": account_id, "id": macro_id})
