"""Shadow tables: a projection built anew beside the one in use, and put in its place in one transaction.

The shadow of a table is of the same name in a schema of its own, so that the projection's statements write it when
that schema comes first in the search path. What is put in place keeps the names of indexes and constraints, the
storage parameters, the policies and the comments of what it replaces: migrations find everything where they left it.
"""

import re
from collections.abc import Sequence

from relevo.chassis import tenancy
from relevo.chassis.database import Connection

_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX \S+ ON (ONLY )?\S+ ")

_KIND = (
    "select relkind::text as kind, reloptions, pg_get_partkeydef(oid) as key from pg_class where oid = to_regclass(%s)"
)
_INDEXES = """
    select c.relname as name, pg_get_indexdef(i.indexrelid) as definition
    from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %s::regclass order by 1
"""
_CHILDREN = """
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = %s::regclass order by 1
"""
_TIES = """
    select conname as name from pg_constraint where contype = 'f' and %s::regclass in (conrelid, confrelid)
    union all select tgname from pg_trigger where tgrelid = %s::regclass and not tgisinternal
"""


class CannotBeRebuilt(Exception):
    """The tables of a projection are not of a kind that can be built beside those in use."""


def schema_of(projection: str) -> str:
    """The schema that holds a projection's shadow."""
    return f"rebuild_{projection}"


async def exists(connection: Connection, schema: str) -> bool:
    """Whether a shadow is there, from a rebuild that did not end."""
    cursor = await connection.execute(
        "select exists (select 1 from pg_namespace where nspname = %s) as there", (schema,)
    )
    row = await cursor.fetchone()
    return bool(row and row.there)


async def make(connection: Connection, schema: str, tables: Sequence[str]) -> None:
    """Make an empty shadow of these tables. Raises CannotBeRebuilt."""
    await connection.execute(f"create schema {schema}")
    for table in tables:
        public = f"public.{table}"
        row = await (await connection.execute(_KIND, (public,))).fetchone()
        if row is None or row.kind not in {"r", "p"}:
            raise CannotBeRebuilt(f"{table} is not a table of this service")
        if ties := await (await connection.execute(_TIES, (public, public))).fetchall():
            raise CannotBeRebuilt(f"{table} has foreign keys or triggers ({', '.join(tie.name for tie in ties)})")
        partitioned = f" partition by {row.key}" if row.kind == "p" else ""
        stored = f" with ({', '.join(row.reloptions)})" if row.reloptions else ""
        await connection.execute(f"create table {schema}.{table} (like {public} including all){partitioned}{stored}")
        await tenancy.copy(connection, public, f"{schema}.{table}")


async def put_in_place(connection: Connection, schema: str, tables: Sequence[str]) -> None:
    """Replace these tables by their shadows, and remove the schema; for readers it happens at the commit."""
    for table in tables:
        public, shadow = f"public.{table}", f"{schema}.{table}"
        wanted = await _indexes(connection, public)
        comment = await (
            await connection.execute("select obj_description(%s::regclass, 'pg_class') as text", (public,))
        ).fetchone()
        children = await (await connection.execute(_CHILDREN, (shadow,))).fetchall()
        await connection.execute(f"drop table {public}")
        for name in (table, *(child.name for child in children)):
            await connection.execute(f"alter table {schema}.{name} set schema public")
        found = await _indexes(connection, public)
        for definition, name in wanted.items():
            if found[definition] != name:
                await connection.execute(f"alter index public.{found[definition]} rename to {name}")
        if comment and comment.text:
            quoted = comment.text.replace("'", "''")
            await connection.execute(f"comment on table {public} is '{quoted}'")
    await connection.execute(f"drop schema {schema}")


async def drop(connection: Connection, schema: str) -> None:
    """Remove a shadow."""
    await connection.execute(f"drop schema if exists {schema} cascade")


async def _indexes(connection: Connection, table: str) -> dict[str, str]:
    """The names of a table's indexes, by what they are."""
    rows = await (await connection.execute(_INDEXES, (table,))).fetchall()
    return {_INDEX.sub(lambda match: match[1] or "", row.definition): row.name for row in rows}
