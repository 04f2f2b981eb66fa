"""The history reader and rebuilds on real servers: presence owns a log, realtime reads it."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from relevo.chassis import Consumer, Projection, Received, Service, Tx, feed, topology
from relevo.chassis.archive import Archive
from relevo.chassis.bus import Bus, until
from relevo.chassis.database import Database, Pool
from relevo.chassis.erasing import Personal
from relevo.chassis.history import History, HistoryServer
from relevo.chassis.log import Log
from relevo.chassis.objects import Folder
from relevo.chassis.rebuild import Rebuild, RebuildFailed, RebuildRefused
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.catalogue import BY_MODEL, HOLDERS
from relevo.contracts.grants import service_grants
from relevo.contracts.notification import Notify
from relevo.contracts.presence import AgentStatus, Heartbeat, StatusChanged
from relevo.contracts.streams import QUIET_PARTITIONS

ACCOUNT = "acc1"
AGENTS, EACH = 8, 12


def new_database(servers) -> str:
    return chassis_database(
        servers,
        "create table heard (n bigint generated always as identity, agent text, sequence bigint)",
        "create table latest (agent text primary key, sequence bigint not null check (sequence > 0), state text)"
        " with (fillfactor = 70)",
        "create index latest_by_state on latest (state, agent)",
        "comment on table latest is 'it''s the last state'",
    )


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def write(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


async def answer(batch: Sequence[Received], tx: Tx) -> None:
    """Presence: an event for every heartbeat, numbered by its device."""
    for received in batch:
        if received.is_a(Heartbeat):
            beat = received.data
            status = AgentStatus(agent_id=beat.agent_id, state="available", since=beat.at, cause="connected")
            tx.emit(
                StatusChanged(status=status, previous="offline", previous_since=beat.at),
                account=received.envelope.account,
                entity=beat.agent_id,
                sequence=int(beat.device_id),
            )


async def nothing(_batch: Sequence[Received], _tx: Tx) -> None:
    """Of streams that a test has nothing in."""


async def hear(batch: Sequence[Received], tx: Tx) -> None:
    """Realtime: every event in a row, and the projection of the last ones."""
    for one in batch:
        await tx.execute(
            text("insert into heard (agent, sequence) values (:agent, :sequence)"),
            {"agent": one.envelope.entity, "sequence": one.envelope.sequence},
        )
    await project(batch, tx)


async def project(batch: Sequence[Received], tx: Tx) -> None:
    for one in batch:
        await tx.execute(
            text(
                "insert into latest as l (agent, sequence, state) values (:agent, :sequence, :state)"
                " on conflict (agent) do update set sequence = excluded.sequence, state = excluded.state"
                " where excluded.sequence > l.sequence"
            ),
            {"agent": one.envelope.entity, "sequence": one.envelope.sequence, "state": one.data.status.state},
        )


LATEST = Projection("latest", ("latest",), {streams.EVT_PRESENCE: project})


@asynccontextmanager
async def running(bus, name: str, dsn: str, consumers, files: Path) -> AsyncIterator[Runtime]:
    grants = service_grants(name)
    settings = ServiceSettings(
        database_url=dsn,
        nats_url=bus.nats_url,
        nats_credentials=bus.user(name, publish=grants.publish, subscribe=grants.subscribe),
        partition_lease_seconds=1.0,
        files=files,
        allow_unsafe_broker=True,
    )
    runtime = Runtime(Service(name, settings, "none", consumers, personal=Personal() if name in HOLDERS else None))
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


def presence(world, dsn):
    return running(
        world.bus,
        "presence",
        dsn,
        (Consumer(streams.CMD_PRESENCE, answer), Consumer(streams.EVT_ASSIGNMENT, nothing)),
        world.files,
    )


def realtime(world, dsn):
    consumers = (
        Consumer(streams.EVT_CONVERSATION, nothing),
        Consumer(streams.EVT_PRESENCE, hear),
        Consumer(streams.EVT_NOTIFICATION, nothing),
    )
    return running(world.bus, "realtime", dsn, consumers, world.files)


class World:
    def __init__(self, bus, admin: Admin, owner: str, reader: str, files: Path) -> None:
        self.bus, self.admin, self.owner, self.reader, self.files = bus, admin, owner, reader, files

    async def beat(self, numbers: range, agents: range = range(AGENTS)) -> None:
        for n in numbers:
            for agent in agents:
                await self.admin.publish(
                    Heartbeat(agent_id=f"a{agent}", device_id=str(n), at=now()), account=ACCOUNT, entity=f"a{agent}"
                )

    async def published(self, count: int) -> None:
        async def there() -> bool:
            return rows(self.owner, "select count(*) from outbox where stream_seq is not null") == [(count,)]

        assert await until(there, 30), rows(self.owner, "select count(*), count(stream_seq) from outbox")

    async def heard(self, each: int) -> None:
        async def there() -> bool:
            return rows(self.reader, "select count(*) from heard")[0][0] >= AGENTS * each

        assert await until(there, 30), rows(self.reader, "select agent, max(sequence) from heard group by 1")
        self.assert_whole(each)

    def assert_whole(self, each: int) -> None:
        for agent in range(AGENTS):
            found = rows(self.reader, f"select sequence from heard where agent = 'a{agent}' order by n")
            assert [sequence for (sequence,) in found] == list(range(1, each + 1)), f"a{agent}"

    async def age(self, day: date = date(2025, 1, 1), *, archive: bool = True) -> None:
        """As if it all were long ago: rows of that day, in the archive or about to be, and nothing in the stream."""
        write(
            self.owner,
            f"create table outbox_{day:%Y%m%d} partition of outbox"
            f" for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')",
            f"update outbox set created_at = '{day} 12:00+00'",
            f"update relay_mark set at = '{day} 12:00+00'",
        )
        if archive:
            store = Folder(self.files / "archive")
            done = await Archive("presence", self.owner, store, timedelta(days=7)).run()
            assert done is not None
            assert done.days == 1
        await self.admin.nats.jetstream().purge_stream("EVT_PRESENCE")


@pytest.fixture
async def world(servers, tmp_path) -> AsyncIterator[World]:
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        yield World(bus, admin, new_database(servers), new_database(servers), tmp_path)


async def test_a_new_service_gets_the_whole_log_from_archive_outbox_and_stream(world):
    async with presence(world, world.owner):
        await world.beat(range(1, EACH + 1))
        await world.published(AGENTS * EACH)
        await world.age()
        await world.beat(range(EACH + 1, 2 * EACH + 1))
        await world.published(AGENTS * EACH)  # the archived ones are gone from the table
        await world.age(date(2025, 1, 2), archive=False)
        await world.beat(range(2 * EACH + 1, 3 * EACH + 1))
        await world.published(2 * AGENTS * EACH)
        async with realtime(world, world.reader):
            await world.heard(3 * EACH)
            await world.beat(range(3 * EACH + 1, 3 * EACH + 3))
            await world.heard(3 * EACH + 2)


async def test_a_service_that_was_stopped_for_too_long_goes_on_where_it_was(world):
    async with presence(world, world.owner):
        async with realtime(world, world.reader):
            await world.beat(range(1, 5))
            await world.heard(4)
        await world.beat(range(5, EACH + 1))
        await world.published(AGENTS * EACH)
        await world.age()
        await world.beat(range(EACH + 1, EACH + 4))
        async with realtime(world, world.reader):
            await world.heard(EACH + 3)


async def test_a_reader_that_retention_overtakes_reads_the_rest_from_the_owners_log(world, monkeypatch):
    """The broker's consumer goes on behind what is gone without a word."""
    monkeypatch.setattr(feed, "PULL", 8)
    async with presence(world, world.owner), realtime(world, world.reader) as runtime:
        await world.beat(range(1, 3))
        await world.heard(2)
        async with runtime.reader._turn:  # its handler takes long
            await world.beat(range(3, 51))
            await world.published(AGENTS * 50)
            # Of every lane something is left, whichever of them was the last to be published.
            for p in range(streams.EVT_PRESENCE.partitions):
                await world.admin.nats.jetstream().purge_stream("EVT_PRESENCE", subject=f"evt.presence.{p}.>", keep=1)
        await world.heard(50)
        await world.beat(range(51, 53))
        await world.heard(52)


async def test_a_reader_that_retention_overtakes_notices_although_nothing_follows(world, monkeypatch):
    monkeypatch.setattr(feed, "PULL", 8)
    async with presence(world, world.owner), realtime(world, world.reader) as runtime:
        await world.beat(range(1, 3))
        await world.heard(2)
        async with runtime.reader._turn:
            await world.beat(range(3, 51))
            await world.published(AGENTS * 50)
            await world.admin.nats.jetstream().purge_stream("EVT_PRESENCE", keep=1)
        await world.heard(50)


async def test_what_comes_while_the_stream_is_asked_is_not_overtaken(world, monkeypatch):
    async with presence(world, world.owner), realtime(world, world.reader) as runtime:
        await world.beat(range(1, 3))
        await world.heard(2)
        p = streams.EVT_PRESENCE.partition_of(account=ACCOUNT, entity="a0")
        follower = next(one for one in runtime.reader._held() if one.stream is streams.EVT_PRESENCE and one.p == p)
        ask = runtime.bus.stream_state
        came = asyncio.Event()
        times = 0

        async def slow(stream):
            nonlocal times
            if stream is streams.EVT_PRESENCE and times < 2:
                times += 1
                before = follower._floor
                if times == 1:
                    await world.beat(range(5, 6), range(1))

                async def there() -> bool:
                    return follower._floor > before

                assert await until(there, 30)
                came.set()
            return await ask(stream)

        monkeypatch.setattr(runtime.bus, "stream_state", slow)
        async with runtime.reader._turn:  # what waits already hides that the next is not the next
            floor = follower._floor
            await world.beat(range(3, 4), range(1))

            async def taken() -> bool:
                return follower._floor > floor and not follower.waiting

            # Taken out of what waits, and held up behind us: what comes now stays there, however fast it comes.
            assert await until(taken, 30)
            await world.beat(range(4, 5), range(1))

            async def waits() -> bool:
                return bool(follower.waiting) and follower.waiting[-1].envelope.sequence == 4

            assert await until(waits, 30)
            follower._behind = True
            follower._doubt.set()
            await came.wait()
            await world.beat(range(6, 30), range(1))
        await world.beat(range(3, 30), range(1, AGENTS))
        await world.heard(29)


async def test_who_proves_and_does_not_hear_that_it_is_over_doubles_nothing(world, monkeypatch):
    """A wait that ends in the moment in which it is cancelled swallows that, in Python 3.11."""
    async with presence(world, world.owner), realtime(world, world.reader) as runtime:
        await world.beat(range(1, 3))
        await world.heard(2)
        p = streams.EVT_PRESENCE.partition_of(account=ACCOUNT, entity="a0")
        follower = next(one for one in runtime.reader._held() if one.stream is streams.EVT_PRESENCE and one.p == p)
        ask = runtime.bus.begins
        asked, over = asyncio.Event(), asyncio.Event()

        async def deaf(stream):
            answer = await ask(stream)
            if asyncio.current_task().get_name() == f"prove-{follower.name}" and not over.is_set():
                asked.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()
                over.set()
            return answer

        monkeypatch.setattr(runtime.bus, "begins", deaf)
        follower._behind = True
        await world.beat(range(3, 5), range(1))
        await asked.wait()
        follower.restart()
        await over.wait()

        async def again() -> bool:
            follower._behind = True
            return bool(follower._expected > 1 and follower.live)

        await world.beat(range(3, 30), range(1, AGENTS))
        assert await until(again, 30)
        for n in range(5, 30):
            await world.beat(range(n, n + 1), range(1))
            follower._behind = True
        await world.heard(29)


async def test_who_has_more_than_is_handled_is_not_taken_for_silent(world, monkeypatch):
    """Under load nothing is asked for while enough waits, and the broker has nothing to say then."""
    monkeypatch.setattr(feed, "PULL", 8)
    monkeypatch.setattr(feed, "HEARTBEAT", 0.2)
    monkeypatch.setattr(feed, "SILENCE", 0.5)
    async with presence(world, world.owner), realtime(world, world.reader) as runtime:
        await world.beat(range(1, 3))
        await world.heard(2)
        p = streams.EVT_PRESENCE.partition_of(account=ACCOUNT, entity="a0")
        follower = next(one for one in runtime.reader._held() if one.stream is streams.EVT_PRESENCE and one.p == p)
        async with runtime.reader._turn:  # its handler takes long
            await world.beat(range(3, 51), range(1))

            async def full() -> bool:
                return bool(follower.waiting) and not follower._outstanding

            assert await until(full, 30)
            consumer, since = follower._consumer, time.monotonic()

            async def long_after() -> bool:
                return time.monotonic() > since + 4 * feed.SILENCE

            assert await until(long_after, 30)
            assert follower._consumer == consumer
        await world.beat(range(3, 51), range(1, AGENTS))
        await world.heard(50)


async def test_without_the_owner_nothing_beyond_is_handled(world):
    async with presence(world, world.owner):
        await world.beat(range(1, EACH + 1))
        await world.published(AGENTS * EACH)
        await world.age()
        await world.beat(range(EACH + 1, EACH + 3))
        await world.published(AGENTS * 2)
    async with realtime(world, world.reader) as runtime:

        async def refused() -> bool:
            return any("presence does not tell its log" in reason for reason in runtime.missing().values())

        assert await until(refused, 30)
        assert "it is not running" in " ".join(runtime.missing().values())
        assert rows(world.reader, "select count(*) from heard") == [(0,)]
        async with presence(world, world.owner):
            await world.heard(EACH + 2)

            async def ready() -> bool:
                return not runtime.missing()

            assert await until(ready, 30)


async def test_a_damaged_segment_stops_its_partition_with_its_name(world):
    async with presence(world, world.owner):
        await world.beat(range(1, EACH + 1))
        await world.published(AGENTS * EACH)
        await world.age()
        for path in (world.files / "archive").rglob("*.gz"):
            path.write_bytes(path.read_bytes()[:-9] + bytes(9))
        async with realtime(world, world.reader) as runtime:

            async def refused() -> bool:
                return any("EVT_PRESENCE" in reason and "is damaged" in reason for reason in runtime.missing().values())

            assert await until(refused, 30)
            assert rows(world.reader, "select count(*) from heard") == [(0,)]


@asynccontextmanager
async def job(world, *, report=lambda _: None, projection=LATEST) -> AsyncIterator[Rebuild]:
    """As `python -m relevo.realtime rebuild` has it: a process of its own, as the same user."""
    grants = service_grants("realtime")
    credentials = world.bus.user("realtime", publish=grants.publish, subscribe=grants.subscribe)
    bus = Bus("realtime", world.bus.nats_url, str(credentials))
    await bus.connect()
    database = Database(Pool(world.reader, service="realtime", size=4, lease_seconds=4), "realtime")
    try:
        yield Rebuild(projection, bus=bus, database=database, owned=Log(database, None), report=report)
    finally:
        await bus.close()
        await database.close()


def dump(dsn: str) -> list[tuple]:
    return rows(dsn, "select * from latest order by agent")


def shape(dsn: str) -> list[tuple]:
    """Names of indexes and constraints, parameters and comment."""
    return rows(
        dsn,
        "select indexname, indexdef from pg_indexes where tablename = 'latest'"
        " union select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = 'latest'::regclass"
        " union select array_to_string(reloptions, ','), obj_description(oid) from pg_class where oid = 'latest'::regclass"
        " order by 1",
    )


async def test_a_rebuilt_projection_is_equal_byte_for_byte(world):
    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, EACH + 1))
        await world.heard(EACH)
        await world.age()
        await world.beat(range(EACH + 1, EACH + 4))
        await world.heard(EACH + 3)
        before, made = dump(world.reader), shape(world.reader)
        assert len(before) == AGENTS
        write(world.reader, "delete from latest where agent <> 'a3'", "update latest set state = 'wrong'")
        told = []
        async with job(world, report=told.append) as rebuild:
            await rebuild.run()
        assert dump(world.reader) == before
        assert shape(world.reader) == made
        assert (told[-1].phase, told[-1].events) == ("done", AGENTS * (EACH + 3))
        assert rows(world.reader, "select * from rebuilds") == []
        assert rows(world.reader, "select nspname from pg_namespace where nspname like 'rebuild%'") == []
        # The live consumer goes on behind the new table.
        await world.beat(range(EACH + 4, EACH + 6))
        await world.heard(EACH + 5)
        assert {sequence for _, sequence, _ in dump(world.reader)} == {EACH + 5}


async def test_a_row_that_the_archive_lost_shows(world):
    """The comparison above can fail: with a segment taken out, manifest and all, the tables differ."""
    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, EACH + 1))
        await world.heard(EACH)
        await world.age()
        before = dump(world.reader)
        write(world.owner, "delete from segments where p = (select min(p) from segments)")
        async with job(world) as rebuild:
            await rebuild.run()
        assert dump(world.reader) != before


async def test_a_rebuild_under_traffic_misses_and_doubles_nothing(world):
    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, EACH + 1))
        await world.heard(EACH)
        await world.age()
        traffic = asyncio.create_task(world.beat(range(EACH + 1, 6 * EACH + 1)))
        rebuilds = 0
        while not traffic.done():
            async with job(world) as rebuild:
                await rebuild.run()
            rebuilds += 1
        await traffic
        assert rebuilds > 1
        await world.heard(6 * EACH)
        assert {sequence for _, sequence, _ in dump(world.reader)} == {6 * EACH}
        async with job(world) as rebuild:
            before = dump(world.reader)
            await rebuild.run()
        assert dump(world.reader) == before


_RUN = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[1])
import test_history
from types import SimpleNamespace
from relevo.chassis.bus import Bus
from relevo.chassis.database import Database, Pool
from relevo.chassis.log import Log
from relevo.chassis.rebuild import Rebuild

async def run(url, creds, dsn):
    bus = Bus("realtime", url, creds)
    await bus.connect()
    database = Database(Pool(dsn, service="realtime", size=4, lease_seconds=4), "realtime")
    await Rebuild(test_history.LATEST, bus=bus, database=database, owned=Log(database, None)).run()

asyncio.run(run(*sys.argv[2:]))
"""


async def test_a_rebuild_that_died_goes_on(world):
    grants = service_grants("realtime")
    creds = world.bus.user("realtime", publish=grants.publish, subscribe=grants.subscribe)
    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, EACH + 1))
        await world.heard(EACH)
        await world.age()
        before = dump(world.reader)
        write(world.reader, "update latest set state = 'wrong'")
        wrong = dump(world.reader)

        async def die(point: str) -> None:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _RUN,
                str(Path(__file__).parent),
                world.bus.nats_url,
                str(creds),
                world.reader,
                env=os.environ | {"RELEVO_CRASH": point},
            )
            assert await process.wait() == 137

        for point in ("rebuild.before_commit:2", "rebuild.before_exchange", "rebuild.before_exchange_commit"):
            await die(point)
            assert dump(world.reader) == wrong
        read = rows(world.reader, "select sum(events) from rebuilds")
        assert read == [(AGENTS * EACH,)], "what was read before the last death was kept"
        await die("rebuild.after_exchange")
        assert dump(world.reader) == before
        async with job(world) as rebuild:
            await rebuild.run()
        assert dump(world.reader) == before


async def test_a_handler_that_emits_is_no_projection(world):
    async def emits(batch: Sequence[Received], tx: Tx) -> None:
        tx.emit(batch[0].data, account=ACCOUNT, entity="a0")

    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, 3))
        await world.heard(2)
        before = dump(world.reader)
        async with job(world, projection=Projection("latest", ("latest",), {streams.EVT_PRESENCE: emits})) as rebuild:
            with pytest.raises(RebuildFailed, match="emits events"):
                await rebuild.run()
        assert dump(world.reader) == before


async def test_a_stream_that_goes_back_meanwhile_spoils_a_rebuild(world):
    """Its events have other numbers then: what was read up to a number is not what lies before it now."""

    async def project_and_rewind(batch: Sequence[Received], tx: Tx) -> None:
        write(world.reader, "update position set checked_until = now() + interval '1 minute', rewinds = rewinds + 1")
        await project(batch, tx)

    async with presence(world, world.owner), realtime(world, world.reader):
        await world.beat(range(1, 3))
        await world.heard(2)
        before = dump(world.reader)
        spoilt = Projection("latest", ("latest",), {streams.EVT_PRESENCE: project_and_rewind})
        async with job(world, projection=spoilt) as rebuild:
            with pytest.raises(RebuildFailed, match="begin anew with --restart"):
                await rebuild.run()
            with pytest.raises(RebuildRefused, match="went back to an earlier end and is published again"):
                await rebuild.run(restart=True)
        write(world.reader, "update position set checked_until = now()")
        async with job(world) as rebuild:
            await rebuild.run(restart=True)
        assert dump(world.reader) == before


async def test_one_rebuild_of_a_projection_at_a_time(world):
    async with job(world) as rebuild:
        with psycopg.connect(world.reader) as connection:
            connection.execute("select pg_advisory_lock(80, hashtext('latest'))")
            with pytest.raises(RebuildRefused, match="is being rebuilt already"):
                await rebuild.run()


async def test_logs_of_several_senders_are_one_in_the_order_of_the_stream(servers, world):
    """CMD_NOTIFICATION has a lane a sender; their sequences interleave."""
    stream, p = streams.CMD_NOTIFICATION, 1
    senders = BY_MODEL[Notify].publishers
    step = len(senders) + 1  # what comes last in each round is nobody's
    body, headers = b"{}", json.dumps({"ce-type": "relevo.notification.notify.v1"})
    async with AsyncExitStack() as stack:

        async def connect(name: str) -> Bus:
            grants = service_grants(name)
            creds = world.bus.user(name, publish=grants.publish, subscribe=grants.subscribe)
            bus = Bus(name, world.bus.nats_url, str(creds))
            await bus.connect()
            stack.push_async_callback(bus.close)
            return bus

        for number, name in enumerate(senders):
            dsn = new_database(servers)
            with psycopg.connect(dsn) as connection:
                connection.execute("create table outbox_default partition of outbox default")
                for seq in range(1 + number, 2001, step):
                    connection.execute(
                        "insert into outbox (stream, p, event_id, subject, headers, body, stream_seq)"
                        " values ('CMD_NOTIFICATION', %s, gen_random_uuid(), %s, %s, %s, %s)",
                        (p, f"cmd.notification.{name}.acc.e.notify", headers, body, seq),
                    )
            database = Database(Pool(dsn, service=name, size=2, lease_seconds=4), name)
            stack.push_async_callback(database.close)
            await HistoryServer(await connect(name), Log(database, None)).start()
        reader = await connect("notification")
        await reader.nats.flush()
        seen = []
        async for batch in History(reader, Log(database, None)).missing(stream, p, after=10, before=1900):
            for one in batch:
                assert one.previous == (seen[-1] if seen else 10)
                assert one.subject.split(".")[2] == "1"
                seen.append(one.seq)
        assert seen == [seq for seq in range(11, 1900) if seq % step != 0]
    assert stream.partitions == QUIET_PARTITIONS
