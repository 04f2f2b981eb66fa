"""The test servers that every other package's tests stand on."""

import asyncio
from pathlib import Path

import nats
import psycopg
import pytest

from relevo.stack.testing import TestServers


def test_databases_are_apart_and_owned_by_an_ordinary_role(servers: TestServers) -> None:
    first, second = servers.create_database(), servers.create_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE thing (id int)")
        assert connection.execute("SELECT unaccent('Canción')").fetchone() == ("Cancion",)
        assert connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone() == (False,)
    copy = servers.create_database(template=first)
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    with psycopg.connect(second) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT 1 FROM thing")
    servers.drop_database(copy)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


@pytest.fixture(scope="module")
def of_the_module(servers: TestServers) -> str:
    return servers.create_database()


_made: list[str] = []


def test_what_a_test_makes(servers: TestServers, of_the_module: str) -> None:
    _made.extend((servers.create_database(), servers.create_database(lasting=True)))


def test_goes_with_it(servers: TestServers, of_the_module: str) -> None:
    passing, lasting = _made
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(passing)
    for dsn in (lasting, of_the_module):
        psycopg.connect(dsn).close()


def test_each_bus_has_its_own_streams(servers: TestServers) -> None:
    first, second = servers.create_bus(), servers.create_bus()

    async def streams(url: str, creds: Path, *, add: bool) -> list[str]:
        client = await nats.connect(url, user_credentials=str(creds))
        try:
            if add:
                await client.jetstream().add_stream(name="EVT", subjects=["evt.>"])
                await client.jetstream().publish("evt.a", b"x")
            return [info.config.name or "" for info in await client.jetstream().streams_info()]
        finally:
            await client.close()

    assert asyncio.run(streams(servers.nats_url, first.admin_creds, add=True)) == ["EVT"]
    assert asyncio.run(streams(servers.nats_url, second.admin_creds, add=False)) == []
