"""The second wall between accounts: row-level security on every table that has an ``account_id``.

The first wall is the WHERE clause of every statement. The second holds when one is forgotten: a transaction sees and
writes the rows of exactly the accounts that it was begun for, and of none when it was begun for none. Over HTTP that is
the caller's account, in a handler the accounts of its batch. The tables' owner, which every service runs as, is held by
it too (``force``), so that nothing that a service executes goes round it.

Some work does not know its account before it has looked: what is due, whose key or ticket this is. A ``Door`` opens one
table, perhaps only some of its rows, to transactions that name it; once the account is known, the transaction enters it
(`Tx.enter`) and the door is shut.

`guard` makes the policies, after every migration, on whatever tables there are then: a new table cannot be forgotten.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from relevo.kernel.text import clean

COLUMN: Final = "account_id"
POLICY: Final = "accounts"
_DOOR: Final = "door_"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

# Each is asked for once a statement and not once a row: what stands in a sub-select without columns is computed first.
_ACCOUNTS: Final = "nullif(current_setting('relevo.accounts', true), '')"
_NAMES: Final = "nullif(current_setting('relevo.names', true), '')"
_OF_TYPE: Final[Mapping[str, LiteralString]] = {
    "uuid": f"{{}} = any ((select {_ACCOUNTS}::uuid[])::uuid[])",
    "text": f"{{}} = any ((select {_ACCOUNTS}::text[] || {_NAMES}::text[])::text[])",
}


SOUGHT: Final = "current_setting('relevo.sought', true)"
"""In a door's condition: what the transaction named as the one thing that it looks for."""


@dataclass(frozen=True, slots=True)
class Door:
    """Opens ``rows`` (a condition, as SQL) of a table to the transactions that name it; to be read only, unless ``writes``."""

    name: LiteralString
    table: str
    rows: LiteralString = "true"
    writes: bool = False


CHASSIS_DOORS: Final = (
    # Whose timers are due is known once they are taken.
    Door("timers", "timers", writes=True),
    # Of a key only its id is known.
    Door("key", "directory", f"kind = 'key' and id = {SOUGHT}"),
    # Whom to forget next is known once the queue is read.
    Door("erasures", "erasures"),
    Door("retention", "idempotency", writes=True),
    Door("retention", "directory", "kind = 'session'", writes=True),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Accounts as the settings that the policies read. ``names`` holds what is no account's id, such as the platform."""

    accounts: str = ""
    names: str = ""
    door: str = ""
    sought: str = ""

    @classmethod
    def into(cls, accounts: Iterable[str], door: str = "", sought: str = "") -> "Entry":
        """What lets a transaction into these accounts, or through a door."""
        ids: list[str] = []
        names: list[str] = []
        for account in dict.fromkeys(accounts):
            (ids if _UUID.fullmatch(account) else names).append(account)
        return cls(_array(ids), _array([_quoted(clean(name)) for name in names]), door, sought)

    def begin(self) -> str:
        """The statement that begins a transaction with these settings: one round trip, as beginning without them."""
        parts = ["begin"]
        for name, value in self.parameters().items():
            if value:
                quoted = value.replace("'", "''")
                parts.append(f"set local relevo.{name} = '{quoted}'")
        return "; ".join(parts)

    def parameters(self) -> dict[str, str]:
        """For ENTER."""
        return {"accounts": self.accounts, "names": self.names, "door": self.door, "sought": self.sought}


ENTER: Final = (
    "select set_config('relevo.accounts', %(accounts)s, true) as a, set_config('relevo.names', %(names)s, true) as n, "
    "set_config('relevo.door', %(door)s, true) as d, set_config('relevo.sought', %(sought)s, true) as s"
)
"""Changes the settings of the transaction that is under way."""


def _array(elements: Sequence[str]) -> str:
    return "{" + ",".join(elements) + "}" if elements else ""


def _quoted(element: str) -> str:
    escaped = element.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_TABLES = """
    select c.relname, format_type(a.atttypid, null), c.relispartition, c.relrowsecurity and c.relforcerowsecurity
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
      and a.attname = coalesce(%s::jsonb ->> c.relname, 'account_id')
    order by 1
"""
_POLICIES = """
    select c.relname, p.polname, obj_description(p.oid, 'pg_policy') from pg_policy p
    join pg_class c on c.oid = p.polrelid where c.relnamespace = 'public'::regnamespace
"""


def guard(database_url: str, doors: Iterable[Door] = (), columns: Mapping[str, str] | None = None) -> None:
    """Put the policies on every table of a service that has an ``account_id``, and take away those of doors that are gone.

    ``columns`` names the column of tables that have another one. Changes nothing where all is as it should be. Raises
    LookupError for a door of a table that is not there, TypeError for a column that is neither uuid nor text.
    """
    import json  # noqa: PLC0415  (a serving process never comes here)

    wanted_doors = (*CHASSIS_DOORS, *doors)
    columns = dict(columns or {})
    with psycopg.connect(database_url, options="-c lock_timeout=10s") as connection:
        tables = connection.execute(_TABLES, (json.dumps(columns),)).fetchall()
        if unknown := {door.table for door in wanted_doors} - {name for name, *_ in tables}:
            raise LookupError(f"a door opens {sorted(unknown)}, which are no tables of accounts")
        there = {(table, name): made for table, name, made in connection.execute(_POLICIES)}
        for table, kind, partition, secured in tables:
            if not secured:
                _run(connection, "alter table {} enable row level security, force row level security", table)
            # A partition is reached through its parent, whose policies hold then; by itself it shows nothing.
            wanted = {} if partition else _policies(table, kind, columns.get(table, COLUMN), wanted_doors)
            present = {name: made for (one, name), made in there.items() if one == table}
            for name, made in present.items():
                if wanted.get(name) != made:
                    _run(connection, "drop policy {} on {}", name, table)
            for name, made in wanted.items():
                if present.get(name) != made:
                    _run(connection, f"create policy {{}} on {{}} {made}", name, table)
                    comment = sql.SQL("comment on policy {} on {} is {}")
                    names = sql.Identifier(name), sql.Identifier(table)
                    connection.execute(comment.format(*names, sql.Literal(made)))


def _run(connection: psycopg.Connection[Any], statement: str, *names: str) -> None:
    composed = sql.SQL(statement).format(*map(sql.Identifier, names))
    connection.execute(composed)


def _policies(table: str, kind: str, column: str, doors: Iterable[Door]) -> dict[str, str]:
    if kind not in _OF_TYPE:
        raise TypeError(f"{table}.{column} is {kind}: an account's id is uuid, or text where it may be no account's")
    found = {POLICY: f"using ({_OF_TYPE[kind].format(column)})"}
    for door in doors:
        if door.table == table:
            acts = "" if door.writes else "for select "
            condition = f"current_setting('relevo.door', true) = '{door.name}' and ({door.rows})"
            found[_DOOR + door.name] = f"{acts}using ({condition})"
    return found


_COPIED = """
    select p.polname as name, p.polcmd::text as acts, pg_get_expr(p.polqual, p.polrelid) as condition,
           obj_description(p.oid, 'pg_policy') as made
    from pg_policy p where p.polrelid = %s::regclass order by 1
"""


async def copy(connection: "psycopg.AsyncConnection[Any]", table: str, to: str) -> None:
    """Give a table that was made like another one the same policies; both with their schemas."""
    rows = await (await connection.execute(_COPIED, (table,))).fetchall()
    if not rows:
        return
    await connection.execute(f"alter table {to} enable row level security, force row level security")
    for row in rows:
        acts = "for select " if row.acts == "r" else ""
        await connection.execute(f"create policy {row.name} on {to} {acts}using ({row.condition})")
        comment = sql.SQL(f"comment on policy {row.name} on {to} is {{}}")
        await connection.execute(comment.format(sql.Literal(row.made)))
