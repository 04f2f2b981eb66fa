"""The second wall between accounts, in every service: whatever statement forgets its account, sees no other's rows."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from relevo.chassis.database import Database, Pool
from relevo.chassis.tenancy import CHASSIS_DOORS, COLUMN, Entry
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.stack.testing import TestServers

OF_NO_ACCOUNT = {
    "account_certificates": "identity: the operator's, of accounts that are gone, in ids and numbers",
    "account_drop_objects": "names of segments that are to be deleted",
    "account_drops": "accounts that are gone, whose rows outlive them, so that what comes late is refused",
    "alembic_version": "how far the schema is",
    "dead_letters": "whole messages that could not be handled: whose they are, only their subjects say",
    "handled": "ids of what was handled",
    "outbox": "the log, published by subject; read by the relay and the archive only",
    "position": "how far each stream is handled",
    "rebuilds": "how far rebuilds are",
    "relay_mark": "how far each stream is published",
    "log_placed": "which segments of the log have their places noted",
    "revoked_users": "identity: keys of users of the broker whose accounts are gone, told to the broker for ever",
    "segments": "which days of the log are archived",
    "oidc_flows": "identity: sign-ins under way, before the provider has told whose",
    "reset_requests": "identity: whoever asks, before anybody looked whether the address is known",
    "sign_in_attempts": "identity: counts by address, before an account is known",
    "signing_keys": "identity: of the platform",
}
"""A table that is not named here has an ``account_id``."""


def migrations(service: str) -> str:
    return f"relevo.{service}.migrations"


@pytest.fixture
def dsn(service: str, servers: TestServers) -> str:
    return servers.create_database(template=template_database(servers, migrations(service)))


@contextmanager
def superuser(servers: TestServers, dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.pg_admin_dsn, dbname=dsn.rpartition("/")[2]) as connection:
        yield connection


def columns(connection: psycopg.Connection[Any], service: str) -> dict[str, str]:
    """The tables that hold rows of accounts, apart from partitions, and the column that names the account."""
    named = getattr(importlib.import_module(migrations(service)), "ACCOUNT_COLUMNS", {})
    rows = connection.execute(
        "select c.relname, a.attname from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attname = %s"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1",
        (COLUMN,),
    )
    return {table: found for table, column in rows if (found := named.get(table, column))}


@pytest.mark.parametrize("service", SERVICES)
def test_every_table_of_accounts_has_the_wall_and_the_doors_are_those_that_are_declared(
    service: str, dsn: str, servers: TestServers
) -> None:
    package = importlib.import_module(migrations(service))
    doors = (*CHASSIS_DOORS, *getattr(package, "DOORS", ()))
    with psycopg.connect(dsn) as connection:
        guarded = columns(connection, service)
        tables = connection.execute(
            "select relname, relrowsecurity and relforcerowsecurity, relispartition from pg_class"
            " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        ).fetchall()
        policies = connection.execute("select tablename, policyname, roles, permissive from pg_policies").fetchall()
    for table, secured, partition in tables:
        known = secured or table in OF_NO_ACCOUNT or (partition and table.startswith("outbox_"))
        assert known, f"{table} has no {COLUMN}: give it one, or say here why its rows are of no account"
    secured = {table for table, secured, partition in tables if secured and not partition}
    assert secured == set(guarded)
    assert {(table, name) for table, name, _, _ in policies} == {
        *((table, "accounts") for table in guarded),
        *((door.table, f"door_{door.name}") for door in doors),
    }
    assert {(tuple(roles), permissive) for _, _, roles, permissive in policies} == {(("public",), "PERMISSIVE")}


def fill(connection: psycopg.Connection[Any], table: str, column: str, account: str, mark: str | None = None) -> None:
    """One row of an account in any table: whatever its columns want, with no regard for what it would mean.

    With a ``mark`` (an id) all columns but moments have values, and the mark is each id and each text: all rows of one mark are joined.
    """
    wanted = connection.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod), coalesce(e.typcategory, t.typcategory),"
        " coalesce(format_type(e.oid, null), ''), pg_get_expr(d.adbin, d.adrelid), a.attnotnull"
        " from pg_attribute a join pg_type t on t.oid = a.atttypid"
        " left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'"
        " left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"
        " where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''"
        " and a.attidentity = '' and (a.attnotnull or a.attname = %s or %s) order by a.attnum",
        (table, column, mark is not None),
    ).fetchall()
    values: dict[str, str] = {}
    for name, kind, category, element, default, needed in wanted:
        values[name] = account if name == column else sample(kind, category, element, mark)
        if (default is not None and kind in ("json", "jsonb")) or (not needed and category in "DU" and kind != "uuid"):
            del values[name]
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Literal, values.values())),
    )
    connection.execute(statement)


def sample(kind: str, category: str, element: str, mark: str | None) -> str:
    """A value of a type, as text."""
    if category == "A" or element:
        return "{}" if mark is None or element not in ("uuid", "text") else f"{{{mark}}}"
    if kind in ("json", "jsonb"):
        return "{}"
    if kind == "bytea":
        return "\\x" + (mark or new_id()).replace("-", "")
    if kind == "uuid" or category == "S":
        return mark or new_id()
    return {"N": "1", "B": "true", "D": "2026-01-01", "T": "1 hour"}.get(category, "")


def seen(connection: psycopg.Connection[Any], table: str, column: str) -> list[str]:
    query = sql.SQL("select {}::text from {} order by 1").format(sql.Identifier(column), sql.Identifier(table))
    return [row[0] for row in connection.execute(query)]


def unchecked(connection: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    """Leave nothing that asks a row to mean something, so that any row will do."""
    for table in tables:
        connection.execute(sql.SQL("alter table {} disable trigger all").format(sql.Identifier(table)))
        rows = connection.execute(
            "select conname from pg_constraint where conrelid = %s::regclass and contype in ('c', 'f')", (table,)
        ).fetchall()
        for (name,) in rows:
            drop = sql.SQL("alter table {} drop constraint {}")
            connection.execute(drop.format(sql.Identifier(table), sql.Identifier(name)))


@pytest.mark.parametrize("service", SERVICES)
def test_a_statement_without_a_where_touches_the_transactions_accounts_only(
    service: str, dsn: str, servers: TestServers
) -> None:
    """What the WHERE clauses of the stores guard, with none of them there: for reading, changing, removing, adding."""
    mine, theirs = sorted((new_id(), new_id()))
    with superuser(servers, dsn) as connection:
        tables = columns(connection, service)
        unchecked(connection, list(tables))
        if "facts" in tables:
            connection.execute("create table facts_2026_01 partition of facts default")
        for table, column in tables.items():
            for account in (mine, theirs):
                fill(connection, table, column, account)
    with psycopg.connect(dsn, autocommit=True) as connection:
        role = connection.execute(
            "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
        ).fetchone()
        assert role == (False,)
        for table, column in tables.items():
            names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
            change = sql.SQL("update {table} set {column} = {column}").format(**names)
            give = sql.SQL("update {table} set {column} = {to}").format(to=sql.Literal(theirs), **names)
            remove = sql.SQL("delete from {table}").format(**names)
            assert seen(connection, table, column) == [], table
            for accounts in ([mine], [theirs], [mine, theirs], [new_id()], []):
                found = sorted(set(accounts) & {mine, theirs})
                connection.execute(Entry.into(accounts).begin(), prepare=False)
                assert seen(connection, table, column) == found, (table, accounts)
                assert connection.execute(change).rowcount == len(found), (table, accounts)
                assert connection.execute(remove).rowcount == len(found), (table, accounts)
                connection.execute("rollback")
            connection.execute(Entry.into([mine]).begin(), prepare=False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(give)
            connection.execute("rollback")
            connection.execute(Entry.into([mine]).begin(), prepare=False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                fill(connection, table, column, new_id())
            connection.execute("rollback")
        partitions = connection.execute(
            "select relname from pg_class where relispartition and relkind = 'r' and relrowsecurity"
        ).fetchall()
        connection.execute(Entry.into([mine, theirs]).begin(), prepare=False)
        for (partition,) in partitions:
            assert seen(connection, partition, COLUMN) == [], "a partition by itself shows nothing"


async def test_what_one_transaction_was_let_into_is_over_with_it(servers: TestServers) -> None:
    dsn = servers.create_database(template=template_database(servers, migrations("presence")))
    account = new_id()
    with superuser(servers, dsn) as connection:
        unchecked(connection, ["agent_status"])
        fill(connection, "agent_status", COLUMN, account)
    database = Database(Pool(dsn, service="presence", size=1, lease_seconds=4), "presence")

    async def many(tx: Any) -> int:
        (row,) = await (await tx.conn.execute("select count(*) from agent_status")).fetchall()
        return int(row[0])

    try:
        async with database.begin(account) as tx:
            assert await many(tx) == 1
            await tx.enter(new_id())
            assert await many(tx) == 0
            await tx.enter(account)
            assert await many(tx) == 1
        async with database.begin() as tx:
            assert await many(tx) == 0
        with pytest.raises(ZeroDivisionError):
            async with database.begin(account) as tx:
                assert 1 / (await many(tx) - 1)
        async with database.on_behalf_of(lambda: (account,)).begin() as tx:
            assert await many(tx) == 1
        async with database.begin("un'known\\", 'a"b', "platform") as tx:
            assert await many(tx) == 0
    finally:
        await database.close()
