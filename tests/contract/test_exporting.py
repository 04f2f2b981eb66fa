"""The export of a whole account tells every table of its own, and no secret; nothing of anybody else's."""

import gzip
import importlib
import json

import pytest
from contract.test_tenancy import columns, fill, migrations, superuser, unchecked

from relevo.chassis import exporting
from relevo.chassis.database import Database, Pool
from relevo.chassis.exporting import Exported
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import SERVICES
from relevo.stack.testing import TestServers

SUSPICIOUS = ("sha256", "secret", "hash", "token", "password", "sealed", "viewer")
BYTES = """
    select c.relname, a.attname, format_type(a.atttypid, null) from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
"""


def exported_by(service: str) -> Exported:
    found: Exported = importlib.import_module(f"relevo.{service}.exported").EXPORTED
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_every_table_is_told_or_left_out_for_a_reason_and_no_secret_is_told(
    service: str, servers: TestServers
) -> None:
    exported = exported_by(service)
    dsn = servers.create_database(template=template_database(servers, migrations(service)))
    mine, theirs, mark = new_id(), new_id(), new_id()
    with superuser(servers, dsn) as connection:
        tables = columns(connection, service)
        assert set(exported.tables) | set(exported.reasons()) == set(tables)
        assert not set(exported.tables) & set(exported.reasons())
        for table, column, kind in connection.execute(BYTES).fetchall():
            if table in exported.tables and (kind == "bytea" or any(word in column for word in SUSPICIOUS)):
                assert column in exported.tables[table], f"{service}.{table}.{column} looks like a secret"
        unchecked(connection, list(tables))
        if "facts" in tables:
            connection.execute("create table facts_2026_01 partition of facts default")
        for table, column in tables.items():
            fill(connection, table, column, mine, mark)
            fill(connection, table, column, theirs)
    database = Database(Pool(dsn, service=service, size=1, lease_seconds=4), service)
    try:
        packed = b"".join(
            [one async for one in exporting.compressed(exporting.lines(database, service, mine, exported))]
        )
    finally:
        await database.close()
    first, *rows, last = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert (first["relevo_export"], first["service"], first["account_id"]) == (1, service, mine)
    assert [row["table"] for row in rows] == list(exported.tables)
    assert last == {"end": True, "rows": len(exported.tables), "files": 0}
    assert theirs not in gzip.decompress(packed).decode()
    for row in rows:
        assert not set(row["row"]) & set(exported.tables[row["table"]])


async def test_files_come_in_pieces_and_are_counted_once(servers: TestServers) -> None:
    dsn = servers.create_database(template=template_database(servers, migrations("realtime")))
    database = Database(Pool(dsn, service="realtime", size=1, lease_seconds=4), "realtime")

    async def files(_database: Database, _account: str):  # type: ignore[no-untyped-def]
        for id_, piece in (("a", b"one"), ("a", b"two"), ("b", b"three")):
            yield id_, piece

    try:
        told = [one async for one in exporting.lines(database, "realtime", new_id(), Exported(files=files))]
    finally:
        await database.close()
    assert [(one["file"], one["base64"]) for one in told[1:-1]] == [("a", "b25l"), ("a", "dHdv"), ("b", "dGhyZWU=")]
    assert told[-1]["files"] == 2
