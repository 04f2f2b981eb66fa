"""Dropping an account leaves no row of it in any table of any service, and every row of the others: the small proof.

The large one, with streams, segments and files, is tests/e2e/test_account_deletion.py.
"""

from typing import Any

import psycopg
import pytest
from contract.test_tenancy import columns, fill, migrations, superuser, unchecked
from psycopg import sql

from relevo.chassis import dropping
from relevo.chassis.database import Database, Pool
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.stack.testing import TestServers


def everything(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Every row of every table, as text; what one of the chassis' own says of drops aside."""
    tables = connection.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        " and not relispartition and relname <> 'account_drops' order by 1"
    ).fetchall()
    found = {}
    for (table,) in tables:
        query = sql.SQL("select t::text from {} t order by 1").format(sql.Identifier(table))
        found[table] = [row[0] for row in connection.execute(query)]
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_no_table_forgets_to_forget_an_account(service: str, servers: TestServers) -> None:
    dsn = servers.create_database(template=template_database(servers, migrations(service)))
    gone, other = new_id(), new_id()
    with superuser(servers, dsn) as connection:
        tables = columns(connection, service)
        unchecked(connection, list(tables))
        if "facts" in tables:
            connection.execute("create table facts_2026_01 partition of facts default")
        for table, column in tables.items():
            fill(connection, table, column, other)
        before = everything(connection)
        for table, column in tables.items():
            fill(connection, table, column, gone)
        full = everything(connection)
    assert all(len(full[table]) == len(before[table]) + 1 for table in tables)
    database = Database(Pool(dsn, service=service, size=1, lease_seconds=4), service)
    named = {table: column for table, column in tables.items() if column != "account_id"}
    try:
        assert await dropping.drop_rows(database, gone, named) == len(tables)
    finally:
        await database.close()
    with superuser(servers, dsn) as connection:
        left = everything(connection)
    assert {table: rows for table, rows in left.items() if any(gone in row for row in rows)} == {}
    assert left == before
