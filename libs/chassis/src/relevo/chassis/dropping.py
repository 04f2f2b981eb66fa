"""Dropping whole accounts: which ones a service was told to drop, and its tables without one.

The tables are found in the database's own catalogue by their account's column, exactly as the wall between accounts
finds them (`tenancy.guard`): a new table cannot be forgotten. What is not in tables is `relevo.chassis.dropper`'s.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from psycopg import errors, sql
from sqlalchemy import text

from relevo.chassis.database import Database, Tx
from relevo.chassis.received import Received
from relevo.contracts.accounts import DropAccount

log = structlog.get_logger("relevo.dropping")

DDL: Final[tuple[str, ...]] = (
    """
    create table account_drops (
        id uuid primary key,
        drop_id uuid not null,
        asked_at timestamptz not null,
        sweep boolean not null,
        step text not null,
        barrier jsonb not null default '{}',
        again_at timestamptz not null default now(),
        tables jsonb not null default '{}',
        log bigint not null default 0,
        messages bigint not null default 0,
        files bigint not null default 0,
        done_at timestamptz
    )
    """,
    "create index account_drops_at_work on account_drops (again_at) where done_at is null",
    "comment on table account_drops is 'accounts that this service was told to drop, and how far it is; kept, to refuse what comes late'",
    "comment on column account_drops.id is 'the account: its rows are gone, this one outlives them'",
    "comment on column account_drops.barrier is 'where the streams ended that this service reads: by now it is past that'",
    """
    create table account_drop_objects (
        drop_id uuid not null,
        name text not null,
        primary key (drop_id, name)
    )
    """,
    "comment on table account_drop_objects is 'segments that others have taken the place of, to be deleted'",
    "alter table relay_mark add column dropped boolean not null default false",
    "comment on column relay_mark.dropped is 'the row of that message was of an account that is gone: no loss, should the stream not have it'",
)

BLOCKS: Final = 256
"""Blocks of a table (8 KiB each) that one transaction looks through."""
_PASSES: Final = 5
_SAID_EVERY: Final = 600.0

_ADD = text(
    """
    insert into account_drops (id, drop_id, asked_at, sweep, step)
    values (cast(:account as uuid), cast(:drop as uuid), :asked_at, :sweep, 'wait')
    on conflict (id) do update set
        drop_id = excluded.drop_id, asked_at = excluded.asked_at, sweep = excluded.sweep, step = 'wait', barrier = '{}',
        again_at = now(), done_at = null
    where excluded.drop_id <> account_drops.drop_id or (excluded.sweep and not account_drops.sweep)
    """
)
_GONE = text("select cast(id as text) as id from account_drops")
_IS_GONE = text("select exists (select 1 from account_drops where id = cast(:account as uuid))")
_SINCE = text("select cast(id as text) as id from account_drops where done_at is null or done_at >= :since")

_TABLES = text(
    """
    select c.relname as name, a.attname as "column", ceil(coalesce(
        (select max(pg_relation_size(t.relid)) from pg_partition_tree(c.oid) t), pg_relation_size(c.oid)
    ) / current_setting('block_size')::numeric) as blocks
    from pg_class c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and a.attname = coalesce(cast(:columns as jsonb) ->> c.relname, 'account_id')
    order by 1
    """
)
_REFERENCES = text(
    """
    select c.relname as name, p.relname as parent from pg_constraint f
    join pg_class c on c.oid = f.conrelid join pg_class p on p.oid = f.confrelid
    where f.contype = 'f' and c.relnamespace = 'public'::regnamespace and c.oid <> p.oid
    """
)
_COUNTED = text(
    """
    update account_drops set tables = tables || jsonb_build_object(
        cast(:name as text), coalesce(cast(tables ->> :name as bigint), 0) + :rows)
    where id = cast(:account as uuid)
    """
)


@dataclass(frozen=True, slots=True)
class Drop:
    """An account that is to be dropped, and how far that is."""

    account_id: str
    drop_id: str
    asked_at: Any
    sweep: bool
    step: str
    barrier: dict[str, int]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that holds rows of accounts; ``blocks`` of its largest partition."""

    name: str
    column: str
    blocks: int


async def add(tx: Tx, told: DropAccount) -> None:
    """Have an account dropped; told again, nothing more happens, unless it is the sweep or another request."""
    given = {"account": told.account_id, "drop": told.drop_id, "asked_at": told.asked_at, "sweep": told.sweep}
    await tx.execute(_ADD, given)


async def hear(batch: Sequence[Received], tx: Tx) -> None:
    """The handler of CMD_ACCOUNTS in every service but identity."""
    for received in batch:
        if received.is_a(DropAccount):
            await add(tx, received.data)


async def is_gone(database: Database, account_id: str) -> bool:
    """Whether an account was dropped, or is about to be. For an account's id; what is none is not gone."""
    try:
        return bool((await database.single(_IS_GONE, {"account": account_id})).scalar_one())
    except errors.DataError:
        return False


async def gone_since(tx: Tx, since: Any) -> list[str]:
    """The accounts that are being dropped, or were since then."""
    return [row.id for row in await tx.execute(_SINCE, {"since": since})]


class Gone:
    """The accounts that are gone, as far as this process knows; it looks every few seconds."""

    def __init__(self) -> None:
        self.ids: frozenset[str] = frozenset()
        self._said: dict[str, float] = {}

    async def refresh(self, database: Database) -> None:
        self.ids = frozenset(row.id for row in await database.single(_GONE))

    def without(self, events: Sequence[Received]) -> Sequence[Received]:
        """The events but those of accounts that are gone, which is said once in a while; nobody tries them again."""
        if not self.ids:
            return events
        kept = [event for event in events if event.account not in self.ids]
        if len(kept) < len(events):
            for account in {event.account for event in events} & self.ids:
                if time.monotonic() - self._said.get(account, -_SAID_EVERY) >= _SAID_EVERY:
                    self._said[account] = time.monotonic()
                    log.warning(
                        "account_is_gone",
                        account=account,
                        events=len(events) - len(kept),
                        mend="none is needed: what comes of an account after its end is refused",
                    )
        return kept


async def tables_of_accounts(tx: Tx, columns: Mapping[str, str]) -> list[Table]:
    """All tables of accounts, those that refer to others before them."""
    found = {
        row.name: Table(row.name, row.column, int(row.blocks))
        for row in await tx.execute(_TABLES, {"columns": json.dumps(dict(columns))})
    }
    references = [(row.name, row.parent) for row in await tx.execute(_REFERENCES)]
    return [found[name] for name in _children_first(found, references)]


def _children_first(names: Iterable[str], references: Iterable[tuple[str, str]]) -> list[str]:
    """Names in such an order that whoever refers to another comes before it; of a circle, whichever comes first."""
    waiting = list(names)
    links = {(child, parent) for child, parent in references if child != parent}
    ordered: list[str] = []
    while waiting:
        pointed_at = {parent for child, parent in links if child in waiting}
        free = [name for name in waiting if name not in pointed_at] or waiting[:1]
        ordered += free
        waiting = [name for name in waiting if name not in free]
    return ordered


async def drop_rows(database: Database, account_id: str, columns: Mapping[str, str]) -> int:
    """Remove an account's rows from every table, in transactions of a few blocks each; answers how many there were.

    Walks each table by its blocks: no index is needed, nothing waits long for a lock, and it may begin anew at any time.
    Triggers may write rows while others go, so it is done until nothing is left. Raises psycopg.Error.
    """
    removed = 0
    for _ in range(_PASSES):
        found, stuck = 0, None
        async with database.begin(account_id) as tx:
            tables = await tables_of_accounts(tx, columns)
        for table in tables:
            try:
                found += await _drop_from(database, account_id, table)
            except errors.ForeignKeyViolation as error:
                stuck = error  # of a circle, or of a row that came meanwhile: in the next pass
        removed += found
        if not found and stuck is None:
            return removed
    if stuck is not None:
        raise stuck
    return removed


async def _drop_from(database: Database, account_id: str, table: Table) -> int:
    statement = sql.SQL(
        "delete from {table} where ctid >= %s::text::tid and ctid < %s::text::tid and {column} = %s"
    ).format(table=sql.Identifier(table.name), column=sql.Identifier(table.column))
    removed = 0
    for first in range(0, table.blocks, BLOCKS):
        async with database.begin(account_id) as tx:
            given = (f"({first},0)", f"({first + BLOCKS},0)", account_id)
            rows = (await tx.conn.execute(statement, given)).rowcount
            if rows:
                await tx.execute(_COUNTED, {"account": account_id, "name": table.name, "rows": rows})
        removed += rows
    return removed
