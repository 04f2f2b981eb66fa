"""Every projection of every service can be built beside the one in use, and what takes its place is of the same make."""

import importlib
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from relevo.chassis import shadow
from relevo.chassis.database import Pool
from relevo.chassis.jobs import projections
from relevo.chassis.service import Service
from relevo.chassis.testing import template_database
from relevo.contracts.catalogue import SERVICES
from relevo.stack.documents import _placeholders
from relevo.stack.testing import TestServers


def built(service: str, monkeypatch: pytest.MonkeyPatch) -> Service:
    for name, value in _placeholders().items():
        monkeypatch.setenv(name, value)
    made: Service = importlib.import_module(f"relevo.{service}.app").build()
    return made


def shape(dsn: str, tables: tuple[str, ...]) -> Mapping[str, Any]:
    """Columns, indexes, constraints, partitioning, parameters, policies and comments of these tables, names and all."""
    questions = {
        "columns": "select table_name, ordinal_position, column_name, data_type, is_nullable, column_default"
        " from information_schema.columns where table_schema = 'public' and table_name = any(%s) order by 1, 2",
        "comments": "select c.relname, d.objsubid, d.description from pg_description d join pg_class c on c.oid = d.objoid"
        " where c.relname = any(%s) order by 1, 2",
        "policies'_comments": "select c.relname, p.polname, obj_description(p.oid, 'pg_policy') from pg_policy p"
        " join pg_class c on c.oid = p.polrelid where c.relname = any(%s) order by 1, 2",
        "indexes": "select tablename, indexname, indexdef from pg_indexes where tablename = any(%s) order by 1, 2",
        "constraints": "select c.relname, o.conname, pg_get_constraintdef(o.oid) from pg_constraint o"
        " join pg_class c on c.oid = o.conrelid where c.relname = any(%s) order by 1, 2",
        "policies": "select tablename, policyname, permissive, roles, cmd, qual, with_check from pg_policies"
        " where tablename = any(%s) order by 1, 2",
        "tables": "select relname, relrowsecurity, relforcerowsecurity, relkind, reloptions, pg_get_partkeydef(oid) from pg_class where relname = any(%s) order by 1",
    }
    with psycopg.connect(dsn) as connection:
        return {name: connection.execute(query, (list(tables),)).fetchall() for name, query in questions.items()}


@pytest.mark.parametrize("service", SERVICES)
async def test_what_takes_a_projections_place_is_of_the_same_make(
    service: str, servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(service, monkeypatch)
    known = projections(made)
    assert "directory" in known
    dsn = servers.create_database(template=template_database(servers, made.migrations))
    pool = Pool(dsn, service=service, size=1, lease_seconds=4)
    for name, projection in known.items():
        before = shape(dsn, projection.tables)
        assert len(before["tables"]) == len(projection.tables)
        async with pool.connection() as connection:
            await shadow.make(connection, shadow.schema_of(name), projection.tables)
            await shadow.put_in_place(connection, shadow.schema_of(name), projection.tables)
        assert shape(dsn, projection.tables) == before
    await pool.close()
