"""The directory of the service that owns it, read again from its own log: archive, outbox, and what is not published yet."""

from datetime import timedelta
from pathlib import Path

import psycopg

from relevo.chassis import directory
from relevo.chassis.archive import Archive
from relevo.chassis.log import Log
from relevo.chassis.objects import Folder
from relevo.chassis.rebuild import Rebuild
from relevo.chassis.testing import Running, running
from relevo.contracts.streams import PARTITIONS
from relevo.identity.app import build
from relevo.stack.testing import TestServers

from .conftest import environment, new_account


def dump(service: Running) -> list:
    with psycopg.connect(service.dsn) as connection:
        return connection.execute("select t::text from directory t order by kind, id").fetchall()


async def rebuilt(service: Running, folder: Path) -> None:
    (projection,) = directory.projections("identity")
    database = service.runtime.database
    owned = Log(database, Folder(folder))
    await Rebuild(projection, bus=service.runtime.bus, database=database, owned=owned).run()


async def test_the_directory_is_made_again_from_what_identity_said_itself(servers: TestServers, tmp_path: Path) -> None:
    bus = servers.create_bus()
    async with running(build, servers, bus=bus, **environment(servers, bus)) as service:
        account = await new_account(service)
        role = await account.new_role(["conversations.read", "conversations.reply", "routing.read", "bus.read"])
        agent = await account.new_agent(role["id"])
        await account.signed_in(agent["email"])
        await service.settle()
        with psycopg.connect(service.dsn) as connection:
            connection.execute(
                "create table outbox_20250101 partition of outbox"
                " for values from ('2025-01-01 00:00+00') to ('2025-01-02 00:00+00')"
            )
            connection.execute("update outbox set created_at = '2025-01-01 12:00+00'")
            connection.execute("update relay_mark set at = '2025-01-01 12:00+00'")
        done = await Archive("identity", service.dsn, Folder(tmp_path), timedelta(days=7)).run()
        assert done is not None
        assert done.rows > 10
        await service.admin.nats.jetstream().purge_stream("EVT_IDENTITY")
        await account.call("DELETE", f"/agents/{agent['id']}", expect=204)
        await service.settle()
        # Changes that no relay has taken yet are in the table, too.
        for p in range(PARTITIONS):
            await service.runtime.relay.put_down(p)
        await account.new_role(["teams.manage", "agents.manage", "roles.manage"])
        with psycopg.connect(service.dsn) as connection:
            assert connection.execute("select count(*) from outbox where stream_seq is null").fetchone() != (0,)
            roles = connection.execute("select state -> 'permissions' from directory where kind = 'role'").fetchall()
        assert all(permissions == sorted(permissions) for (permissions,) in roles), "the same text in every process"
        before = dump(service)
        assert len(before) > 10
        with psycopg.connect(service.dsn) as connection:
            connection.execute("delete from directory where kind in ('agent', 'role', 'account')")
        await rebuilt(service, tmp_path)
        assert dump(service) == before
        # Its own requests are judged by the new table at once.
        await account.call("GET", "/roles", expect=200)
