"""What the broker lost is published again by its owner, and handled once by those who read it.

Two services in a row, as small as can be: presence keeps heartbeats and answers each with a status; assignment keeps
the statuses. Heartbeats flow while the stream between the two is purged, deleted, or goes back to an older copy.

As a program this file runs one of the two until it is killed: what dies must be a process.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from relevo.chassis import Consumer, Received, Service, Tx, topology
from relevo.chassis.bus import until
from relevo.chassis.erasing import Personal
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.catalogue import HOLDERS
from relevo.contracts.envelope import AGAIN
from relevo.contracts.grants import service_grants
from relevo.contracts.presence import AgentStatus, Heartbeat, StatusChanged

ACCOUNT = "acc1"
AGENTS = 8


def database(servers) -> str:
    return chassis_database(
        servers, "create table kept (n bigint generated always as identity, agent text, number int)"
    )


_KEEP = text("insert into kept (agent, number) select * from unnest(cast(:a as text[]), cast(:n as int[]))")


async def answer(batch: Sequence[Received], tx: Tx) -> None:
    """Keep every heartbeat, and answer it with a status of the same number."""
    await tx.execute(_KEEP, {"a": [r.data.agent_id for r in batch], "n": [int(r.data.device_id) for r in batch]})
    for received in batch:
        beat = received.data
        status = AgentStatus(agent_id=beat.agent_id, state="available", since=now(), cause="connected")
        tx.emit(
            StatusChanged(status=status, previous="offline", previous_since=now()),
            account=received.envelope.account,
            entity=beat.agent_id,
            cause=received.envelope,
            sequence=int(beat.device_id),
        )


async def keep(batch: Sequence[Received], tx: Tx) -> None:
    """Keep every status."""
    await tx.execute(_KEEP, {"a": [r.envelope.entity for r in batch], "n": [r.envelope.sequence for r in batch]})


async def nothing(batch: Sequence[Received], tx: Tx) -> None:
    """These streams are not part of the test."""


CONSUMERS = {
    "presence": (Consumer(streams.CMD_PRESENCE, answer), Consumer(streams.EVT_ASSIGNMENT, nothing)),
    "assignment": (
        Consumer(streams.EVT_PRESENCE, keep),
        Consumer(streams.EVT_CONVERSATION, nothing),
        Consumer(streams.CMD_ASSIGNMENT, nothing),
    ),
}


def runtime(name: str, dsn: str, nats_url: str, credentials: str) -> Runtime:
    settings = ServiceSettings(
        database_url=dsn,
        nats_url=nats_url,
        nats_credentials=Path(credentials),
        partition_lease_seconds=1.0,
        allow_unsafe_broker=True,
    )
    return Runtime(Service(name, settings, "none", CONSUMERS[name], personal=Personal() if name in HOLDERS else None))


class Chain:
    """The two services' databases and bus, and the count of what was sent through them."""

    def __init__(self, servers, bus, admin: Admin) -> None:
        self.bus = bus
        self.admin = admin
        self.dsn = {name: database(servers) for name in CONSUMERS}
        self.sent = 0

    def arguments(self, name: str) -> tuple[str, str, str, str]:
        grants = service_grants(name)
        credentials = self.bus.user(name, publish=list(grants.publish), subscribe=list(grants.subscribe))
        return name, self.dsn[name], self.bus.nats_url, str(credentials)

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[list[Runtime]]:
        async with AsyncExitStack() as stack:
            runtimes = []
            for name in names or CONSUMERS:
                one = runtime(*self.arguments(name))
                await one.start()
                stack.push_async_callback(one.stop)
                runtimes.append(one)
            yield runtimes

    async def send(self, rounds: int) -> None:
        for _ in range(rounds):
            self.sent += 1
            await asyncio.gather(*(self._beat(f"a{agent}") for agent in range(AGENTS)))

    async def _beat(self, agent: str) -> None:
        beat = Heartbeat(agent_id=agent, device_id=str(self.sent), at=now())
        await self.admin.publish(beat, account=ACCOUNT, entity=agent)

    def kept(self, name: str) -> dict[str, list[int]]:
        found = defaultdict(list)
        with psycopg.connect(self.dsn[name]) as connection:
            for agent, number in connection.execute("select agent, number from kept order by n"):
                found[agent].append(number)
        return found

    def rows(self, name: str, query: str) -> list[tuple]:
        with psycopg.connect(self.dsn[name]) as connection:
            return connection.execute(query).fetchall()

    async def reached(self, name: str, rounds: int, seconds: float = 30) -> bool:
        async def there() -> bool:
            kept = self.kept(name)
            return len(kept) == AGENTS and all(numbers[-1] >= rounds for numbers in kept.values())

        return await until(there, seconds)

    async def judge(self) -> None:
        """Everything that was sent is kept at the end of the chain: once, in order."""
        assert await self.reached("assignment", self.sent, 60), {k: v[-1] for k, v in self.kept("assignment").items()}
        for name in CONSUMERS:
            for agent, numbers in self.kept(name).items():
                assert numbers == list(range(1, self.sent + 1)), (name, agent)

    async def held(self) -> set[tuple[str, int]]:
        """What the stream between the two holds."""
        return {
            (headers["ce-subject"], int(headers["relevo-sequence"]))
            for _, headers, _ in await self.admin.stored("EVT_PRESENCE")
        }


@asynccontextmanager
async def chain_on(servers, bus=None) -> AsyncIterator[Chain]:
    bus = bus or servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        yield Chain(servers, bus, admin)


async def purge(admin: Admin) -> None:
    await admin.request("$JS.API.STREAM.PURGE.EVT_PRESENCE", {})


async def delete(admin: Admin) -> None:
    await admin.request("$JS.API.STREAM.DELETE.EVT_PRESENCE", {})


async def delete_and_apply(admin: Admin) -> None:
    """The operator makes the streams again, not knowing what that hides."""
    await delete(admin)
    await topology.apply(admin)


DISASTERS = [purge, delete, delete_and_apply]


def refused(one: Runtime) -> dict[str, str]:
    return {lane: reason for lane, reason in one.missing().items() if lane.startswith("EVT_PRESENCE")}


@pytest.mark.parametrize("disaster", DISASTERS)
async def test_a_stream_lost_under_load_is_refused_until_healed_and_then_nothing_is_missing(servers, disaster):
    async with chain_on(servers) as chain, chain.running() as (presence, assignment):
        await chain.send(20)
        assert await chain.reached("assignment", 20)
        flow = asyncio.create_task(chain.send(60))
        assert await chain.reached("assignment", 30)
        await disaster(chain.admin)
        await flow

        async def told() -> bool:
            return bool(refused(presence))

        assert await until(told, 30)
        reason = next(iter(refused(presence).values()))
        assert "relevo topology heal" in reason
        assert await chain.reached("presence", chain.sent)
        assert not await chain.reached("assignment", chain.sent, 0)  # nothing goes around the hole
        healed = await topology.heal(chain.admin, ["EVT_PRESENCE"])
        assert [one.name for one in healed] == ["EVT_PRESENCE"]
        await chain.send(10)
        await chain.judge()
        assert await chain.held() == {(f"a{a}", n + 1) for a in range(AGENTS) for n in range(chain.sent)}

        async def well() -> bool:
            return not refused(presence) and not refused(assignment)

        assert await until(well, 30)


@pytest.mark.parametrize("disaster", DISASTERS)
async def test_what_a_reader_had_not_read_yet_comes_back_although_nothing_new_is_said(servers, disaster):
    """The reader was away, the stream is lost and filled again, and no newer event pushes it on."""
    async with chain_on(servers) as chain:
        async with chain.running():
            await chain.send(10)
            assert await chain.reached("assignment", 10)
        async with chain.running("presence"):
            await chain.send(10)
            assert await chain.reached("presence", 20)
        await disaster(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])
        async with chain.running():
            await chain.judge()


async def test_an_operators_word_is_used_up(servers):
    async with chain_on(servers) as chain, chain.running() as (presence, _):
        await chain.send(5)
        assert await chain.reached("assignment", 5)
        await purge(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])
        await chain.send(1)
        await chain.judge()
        await purge(chain.admin)
        await chain.send(1)

        async def told() -> bool:
            return bool(refused(presence))

        assert await until(told, 30)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])
        await chain.judge()


async def test_a_stream_that_is_not_quite_empty_is_filled_without_delay(servers):
    """Other lanes go on after the purge; the broker must not fold by the ids that it lost for two minutes more."""
    async with chain_on(servers) as chain, chain.running():
        await chain.send(5)
        assert await chain.reached("assignment", 5)
        for p in (1, 2, 3):
            await chain.admin.request("$JS.API.STREAM.PURGE.EVT_PRESENCE", {"filter": f"evt.presence.{p}.>"})
        await chain.send(1)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])
        await chain.judge()


async def test_only_rows_written_since_a_time_are_published_again_when_the_operator_says_so(servers):
    async with chain_on(servers) as chain, chain.running():
        await chain.send(5)
        assert await chain.reached("assignment", 5)
        since = datetime.now(UTC)
        await chain.send(5)
        assert await chain.reached("assignment", 10)
        await purge(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"], since=since)
        await chain.send(1)
        await chain.judge()
        assert {number for _, number in await chain.held()} == set(range(6, 12))


async def test_a_healed_stream_tells_what_may_have_been_handled_before(servers):
    async with chain_on(servers) as chain, chain.running():
        await chain.send(3)
        assert await chain.reached("assignment", 3)
        await purge(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])

        async def filled() -> bool:
            return len(await chain.held()) == 3 * AGENTS

        assert await until(filled, 30)
        await chain.send(2)
        await chain.judge()
        again = {int(h["relevo-sequence"]): AGAIN in h for _, h, _ in await chain.admin.stored("EVT_PRESENCE")}
    assert again == {1: True, 2: True, 3: True, 4: False, 5: False}


async def test_an_event_that_committed_late_is_not_taken_for_handled(servers):
    """Row order is commit order for each entity only: in a lane, a lower row may commit after a higher was published."""
    async with chain_on(servers) as chain:
        async with chain.running():
            await chain.send(5)
            assert await chain.reached("assignment", 5)
        # As if the last but one of a lane had not been visible when the last was published: nobody has seen it.
        found = chain.rows("presence", "select id, p, headers, stream_seq from outbox order by id desc")
        late = next(row for row in found if any(r[1] == row[1] and r[0] > row[0] for r in found))
        with psycopg.connect(chain.dsn["presence"]) as connection:
            event_id, subject = connection.execute(
                "update outbox set stream_seq = null where id = %s returning event_id, subject", (late[0],)
            ).fetchone()
        agent = subject.split(".")[3]
        with psycopg.connect(chain.dsn["assignment"]) as connection:
            connection.execute("delete from kept where agent = %s and number = 5", (agent,))
            connection.execute("update handled set ids = array_remove(ids, %s::uuid)", (event_id,))
        await purge(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])
        async with chain.running():
            await chain.judge()


@pytest.fixture
def apart() -> Iterator:
    """Servers of one test's own: it stops the broker."""
    from relevo.stack.testing import start_servers

    folder = Path(tempfile.mkdtemp(prefix="relevo-heal-"))
    folder.chmod(0o711)
    started = start_servers(folder)
    if started.nats is None:
        pytest.skip("the broker is not ours to stop")
    try:
        yield started
    finally:
        started.nats.stop()
        if started.postgres:
            started.postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Store:
    """The broker's store, which can be put back as it was."""

    def __init__(self, servers) -> None:
        self._broker = servers.nats
        self._live = servers.nats.place.root / "nats" / "jetstream"
        self._copy = servers.folder / "copy"

    def copy(self) -> None:
        self._broker.child.process.send_signal(signal.SIGSTOP)
        try:
            shutil.rmtree(self._copy, ignore_errors=True)
            shutil.copytree(self._live, self._copy)
        finally:
            self._broker.child.process.send_signal(signal.SIGCONT)

    def put_back(self) -> None:
        owner = self._live.stat()
        self._broker.stop()
        shutil.rmtree(self._live)
        shutil.copytree(self._copy, self._live)
        for path in [self._live, *self._live.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)
        self._broker.start()


async def test_a_store_put_back_from_before_is_healed_while_messages_flow(apart):
    store = Store(apart)
    async with chain_on(apart) as chain, chain.running() as (presence, assignment):
        await chain.send(20)
        assert await chain.reached("assignment", 20)
        await asyncio.to_thread(store.copy)
        flow = asyncio.create_task(chain.send(60))
        assert await chain.reached("assignment", 50)
        await flow
        assert await chain.reached("presence", chain.sent)  # requests have no outbox here: their tail must be handled
        await asyncio.to_thread(store.put_back)

        async def back() -> bool:
            return chain.admin.nats.is_connected and presence.bus.nats.is_connected

        assert await until(back, 30)
        await chain.send(30)
        await chain.judge()
        assert not refused(presence)
        assert not refused(assignment)
        rewound = chain.rows("assignment", "select sum(rewinds) from position where stream = 'EVT_PRESENCE'")
        assert rewound[0][0] >= 1


async def test_a_store_put_back_is_healed_although_nothing_new_is_said(apart):
    store = Store(apart)
    async with chain_on(apart) as chain:
        async with chain.running():
            await chain.send(10)
            assert await chain.reached("assignment", 10)
        await asyncio.to_thread(store.copy)
        async with chain.running("presence"):
            await chain.send(20)
            assert await chain.reached("presence", 30)
        await asyncio.to_thread(store.put_back)
        async with chain.running():
            await chain.judge()


OWNERS_POINTS = ["reconcile.before_commit", "reconcile.after_commit", "relay.mid_batch", "relay.after_publish"]
READERS_POINTS = ["reader.after_position", "reader.after_commit"]


async def test_healing_survives_a_death_at_any_point(servers):
    """A process dies at each point in turn while the stream is filled and read; then both end the work."""
    async with chain_on(servers) as chain:
        async with chain.running():
            await chain.send(60)
            assert await chain.reached("assignment", 60)
        async with chain.running("presence"):
            await chain.send(20)
            assert await chain.reached("presence", 80)
        await purge(chain.admin)
        await topology.heal(chain.admin, ["EVT_PRESENCE"])

        async def dies(name: str, point: str) -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                *chain.arguments(name),
                env={**os.environ, "RELEVO_CRASH": point},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            async with asyncio.timeout(30):
                assert await process.wait() == 137, point

        for point in OWNERS_POINTS:
            await dies("presence", point)
        # What the stream lost and does not hold yet, its owner tells: it must be there.
        async with chain.running("presence"):
            for point in READERS_POINTS:
                await dies("assignment", point)
        async with chain.running():
            await chain.send(5)
            await chain.judge()


async def _run(name: str, dsn: str, nats_url: str, credentials: str) -> None:
    one = runtime(name, dsn, nats_url, credentials)
    await one.start()
    await asyncio.sleep(timedelta(minutes=1).total_seconds())


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
