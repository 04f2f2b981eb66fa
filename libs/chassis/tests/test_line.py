"""The line itself: reader, positions, outbox and relay on real servers; a tiny presence service stands for all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import pytest
from nats.aio.msg import Msg
from sqlalchemy import text
from structlog.testing import capture_logs

from relevo.chassis import Consumer, Received, Service, Tx, feed, reader, topology
from relevo.chassis.bus import Bus, until
from relevo.chassis.feed import Feed
from relevo.chassis.pressure import EVERY
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database
from relevo.contracts import streams
from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import lane_filter
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.grants import load_subject, service_grants
from relevo.contracts.partition import partition
from relevo.contracts.presence import AgentStatus, Heartbeat, StatusChanged

ACCOUNT = "acc1"
FENCED = "Nats-Expected-Last-Subject-Sequence-Subject"


@pytest.fixture
def dsn(servers) -> str:
    return chassis_database(
        servers, "create table beat (n bigint generated always as identity, agent text, device text)"
    )


async def record(batch: Sequence[Received], tx: Tx) -> None:
    """Keep every heartbeat, answer it with an event; a device called poison cannot be handled."""
    beats = [(r, r.data) for r in batch if r.is_a(Heartbeat)]
    if any(beat.device_id == "poison" for _, beat in beats):
        raise ValueError("this heartbeat is poison")
    await tx.execute(
        text("insert into beat (agent, device) select * from unnest(cast(:a as text[]), cast(:d as text[]))"),
        {"a": [b.agent_id for _, b in beats], "d": [b.device_id for _, b in beats]},
    )
    for received, beat in beats:
        status = AgentStatus(agent_id=beat.agent_id, state="available", since=now(), cause="connected")
        tx.emit(
            StatusChanged(status=status, previous="offline", previous_since=now()),
            account=received.envelope.account,
            entity=beat.agent_id,
            cause=received.envelope,
            sequence=int(beat.device_id) + 1,
        )


async def nothing(batch, tx):
    """Of streams that a test has nothing in."""


@asynccontextmanager
async def replica(servers, bus, dsn, lease: float = 1.0, handler=record) -> AsyncIterator[Runtime]:
    grants = service_grants("presence")
    credentials = bus.user("presence", publish=list(grants.publish), subscribe=list(grants.subscribe))
    settings = ServiceSettings(
        database_url=dsn,
        nats_url=bus.nats_url,
        nats_credentials=credentials,
        partition_lease_seconds=lease,
        allow_unsafe_broker=True,
    )
    runtime = Runtime(
        Service(
            "presence",
            settings,
            "none",
            (Consumer(streams.CMD_PRESENCE, handler), Consumer(streams.EVT_ASSIGNMENT, nothing)),
        )
    )
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


@asynccontextmanager
async def prepared(servers) -> AsyncIterator[tuple]:
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        yield bus, admin


async def beat(admin: Admin, agent: str, device: object) -> None:
    await admin.publish(Heartbeat(agent_id=agent, device_id=str(device), at=now()), account=ACCOUNT, entity=agent)


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def handled(dsn: str, count: int, seconds: float = 15) -> bool:
    async def there() -> bool:
        return rows(dsn, "select count(*) from beat")[0][0] >= count

    return await until(there, seconds)


async def published(admin: Admin, dsn: str) -> list[tuple]:
    async def drained() -> bool:
        return not rows(dsn, "select 1 from outbox where stream_seq is null")

    assert await until(drained, 30)
    return await admin.stored("EVT_PRESENCE")


def assert_in_order(stored: list[tuple], agents: int, each: int) -> None:
    by_agent = defaultdict(list)
    for _, headers, _ in stored:
        by_agent[headers["ce-subject"]].append(int(headers["relevo-sequence"]))
    assert len(by_agent) == agents
    assert all(found == list(range(1, each + 1)) for found in by_agent.values())
    assert len({headers[MESSAGE_ID] for _, headers, _ in stored}) == agents * each


async def test_every_event_is_handled_once_in_order_and_answered_once(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn):
        for n in range(40):
            await asyncio.gather(*(beat(admin, f"a{agent}", n) for agent in range(20)))
        assert await handled(dsn, 800)
        stored = await published(admin, dsn)
    assert_in_order(stored, agents=20, each=40)
    by_agent = defaultdict(list)
    for agent, device in rows(dsn, "select agent, device from beat order by n"):
        by_agent[agent].append(int(device))
    assert all(found == list(range(40)) for found in by_agent.values())


async def test_partitions_are_the_servers_own(servers, dsn):
    async with prepared(servers) as (_, admin):
        for _ in range(40):
            await beat(admin, new_id(), 0)
        for subject, headers, _ in await admin.stored("CMD_PRESENCE"):
            tokens = subject.split(".")
            assert int(tokens[2]) == partition(4, ACCOUNT, headers["ce-subject"])


async def test_a_poison_event_becomes_a_dead_letter_and_the_line_moves_on(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn):
        await beat(admin, "a", 0)
        await beat(admin, "a", "poison")
        await beat(admin, "a", 1)
        # Not of the catalogue's making at all: no headers, no JSON.
        await admin.nats.jetstream().publish("cmd.presence.realtime.acc1.a.heartbeat", b"\xff{")
        await beat(admin, "a", 2)
        assert await handled(dsn, 3)
        await published(admin, dsn)
        dead = await admin.stored("DEAD")
    assert [device for _, device in rows(dsn, "select agent, device from beat order by n")] == ["0", "1", "2"]
    reasons = rows(dsn, "select reason, error from dead_letters order by stream_seq")
    assert [reason for reason, _ in reasons] == ["handler", "envelope"]
    assert "poison" in reasons[0][1]
    assert len(dead) == 2


async def test_replicas_share_partitions_and_a_stopped_one_hands_over(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn) as one:
        assert len(one.leases.held) == 16
        async with replica(servers, bus, dsn) as two:

            async def shared() -> bool:
                return len(one.leases.held) == len(two.leases.held) == 8

            assert await until(shared, 30)
            assert not one.leases.held & two.leases.held
            for n in range(20):
                await asyncio.gather(*(beat(admin, f"a{agent}", n) for agent in range(20)))
            assert await handled(dsn, 400)

        async def alone() -> bool:
            return len(one.leases.held) == 16

        assert await until(alone, 30)
        for n in range(20, 30):
            await asyncio.gather(*(beat(admin, f"a{agent}", n) for agent in range(20)))
        assert await handled(dsn, 600)
        assert_in_order(await published(admin, dsn), agents=20, each=30)


async def test_a_position_moved_by_another_replica_stops_the_batch(servers, dsn):
    """A late replica must do nothing: its batch is rolled back whole, effects and events."""
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn) as runtime:
        positions = runtime.reader.positions
        own_move = positions.move

        async def stolen(tx, runs, known=()):
            # Between the fetch and the transaction another replica has handled the very same events.
            with psycopg.connect(dsn) as connection:
                for events in runs:
                    last = events[-1]
                    connection.execute(
                        "update position set seq = %s, message_id = %s, at = %s where stream = 'CMD_PRESENCE' and p = %s",
                        (last.seq, last.message_id, last.time, last.partition),
                    )
            positions.move = own_move
            await own_move(tx, runs, known)

        positions.move = stolen
        await beat(admin, "a", 0)

        async def lost() -> bool:
            return positions.move == own_move

        assert await until(lost, 30)
        await beat(admin, "a", 1)
        assert await handled(dsn, 1)
    assert rows(dsn, "select agent, device from beat") == [("a", "1")]
    assert rows(dsn, "select count(*) from outbox") == [(1,)]


async def test_the_relay_adopts_what_it_published_but_never_recorded(servers, dsn):
    """Dying between publish and mark must not publish twice."""
    async with prepared(servers) as (bus, admin):
        async with replica(servers, bus, dsn):
            for n in range(10):
                await beat(admin, "a", n)
            assert await handled(dsn, 10)
            assert len(await published(admin, dsn)) == 10
        with psycopg.connect(dsn) as connection:
            connection.execute("update outbox set stream_seq = null where stream_seq >= 5")
            lane = connection.execute("select event_id, p from outbox where stream_seq = 4").fetchone()
            connection.execute("update relay_mark set seq = 4, event_id = %s", (lane[0],))
        async with replica(servers, bus, dsn):
            await beat(admin, "a", 10)
            assert await handled(dsn, 11)
            assert_in_order(await published(admin, dsn), agents=1, each=11)


async def test_a_stream_that_lost_its_tail_gets_it_again_in_order(servers, dsn):
    async with prepared(servers) as (bus, admin):
        async with replica(servers, bus, dsn):
            for n in range(10):
                await beat(admin, "a", n)
            assert await handled(dsn, 10)
            await published(admin, dsn)
        # The broker's store comes back from before the last five: delete and make anew with the first five only.
        stored = await admin.stored("EVT_PRESENCE")
        js = admin.nats.jetstream()
        await js.delete_stream("EVT_PRESENCE")
        await topology.apply(admin)
        for subject, headers, body in stored[:5]:
            tokens = subject.split(".")
            del tokens[2]
            kept = {k: v for k, v in headers.items() if not k.startswith(("Nats-Expected", "Nats-Batch"))}
            await js.publish(".".join(tokens), body, headers=kept)
        async with replica(servers, bus, dsn):
            await beat(admin, "a", 10)
            assert await handled(dsn, 11)
            assert_in_order(await published(admin, dsn), agents=1, each=11)


async def test_an_emptied_stream_is_refused_with_one_clear_line(servers, dsn):
    async with prepared(servers) as (bus, admin):
        async with replica(servers, bus, dsn):
            await beat(admin, "a", 0)
            assert await handled(dsn, 1)
            await published(admin, dsn)
        await admin.nats.jetstream().purge_stream("EVT_PRESENCE")
        async with replica(servers, bus, dsn) as runtime:
            await beat(admin, "a", 1)

            async def refused() -> bool:
                return bool(runtime.relay.refused)

            assert await until(refused, 30)
            assert "was emptied or replaced" in next(iter(runtime.missing().values()))


async def test_a_late_relay_is_refused_by_the_fence_of_whoever_took_over(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn) as runtime:
        await beat(admin, "a", 0)
        assert await handled(dsn, 1)
        await published(admin, dsn)
        p = rows(dsn, "select p from outbox")[0][0]
        later = (await admin.nats.jetstream().publish(streams.EVT_PRESENCE.fence("presence", p), b"")).seq
        held = runtime.relay._fences["EVT_PRESENCE", p]
        await beat(admin, "a", 1)
        assert await handled(dsn, 2)
        assert_in_order(await published(admin, dsn), agents=1, each=2)
        assert held < later < runtime.relay._fences["EVT_PRESENCE", p], (
            "it published under a fence that was not the last"
        )


async def test_fences_name_no_pattern_so_that_their_price_does_not_grow_with_the_stream(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn):
        for n in range(3):
            await beat(admin, "a", n)
        assert await handled(dsn, 3)
        named = {headers.get(FENCED) for _, headers, _ in await published(admin, dsn)} - {None}
    assert named
    assert not any("*" in subject or ">" in subject for subject in named)


async def test_what_was_written_for_one_connection_never_reaches_the_next(servers):
    async with prepared(servers) as (bus, admin):
        ours = bus.user("probe", publish=["$JS.API.INFO", "probe.>"], subscribe=["_INBOX_presence.>"])
        probe = Bus("presence", bus.nats_url, str(ours))
        await probe.connect()
        try:
            gone, again = asyncio.Event(), asyncio.Event()
            probe.on_disconnect(gone.set)
            probe.on_reconnect(again.set)
            heard: asyncio.Queue[bytes] = asyncio.Queue()

            async def hear(message: Msg) -> None:
                heard.put_nowait(message.data)

            await admin.nats.subscribe("probe.>", cb=hear)
            await admin.nats.flush()
            probe.nats._pending.append(b"PUB probe.x 3\r\nold\r\n")  # as if the connection broke before it left
            probe.nats._pending_data_size += 20
            probe.nats._transport.close()
            async with asyncio.timeout(15):
                await gone.wait()
                with pytest.raises(ConnectionError):
                    await probe.wire.publish([("probe.x", "", b"away")])
                await again.wait()
                await probe.wire.publish([("probe.x", "", b"new")])
                assert await heard.get() == b"new"
        finally:
            await probe.close()


async def test_a_foreign_message_in_our_lane_is_refused(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn) as runtime:
        await admin.nats.jetstream().publish("evt.presence.acc1.a.status_changed", b"{}")
        await beat(admin, "a", 0)

        async def refused() -> bool:
            return bool(runtime.relay.refused)

        assert await until(refused, 30)
        assert "never wrote" in next(iter(runtime.relay.refused.values()))


async def test_a_service_tells_how_long_events_wait_while_they_do(servers, dsn):
    told: list[float] = []
    free = asyncio.Event()

    async def stuck(batch: Sequence[Received], tx: Tx) -> None:
        await free.wait()
        await record(batch, tx)

    async def hear(message: Msg) -> None:
        told.append(float(message.data))

    async def long() -> bool:
        return bool(told) and told[-1] > 1

    async def silent() -> bool:
        before = len(told)
        await asyncio.sleep(3 * EVERY)
        return len(told) == before

    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn, lease=4.0, handler=stuck):
        await admin.nats.subscribe(load_subject("presence"), cb=hear)
        await beat(admin, "a", 0)
        assert await until(lambda: _in_hand(dsn), 10)
        await beat(admin, "a", 1)
        assert await until(long, 30)
        assert told == sorted(told)
        free.set()
        assert await handled(dsn, 2)
        assert await until(silent, 30)


async def test_feeds_that_fall_silent_together_are_said_in_one_line_a_stream_and_a_later_one_in_its_own(
    servers, dsn, monkeypatch
):
    monkeypatch.setattr(feed, "HEARTBEAT", 0.2)
    monkeypatch.setattr(feed, "SILENCE", 3.0)
    monkeypatch.setattr(reader, "TOGETHER", 2.0)

    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn, lease=4.0) as runtime:
        feeds = runtime.reader._held()

        async def all_hear() -> bool:
            return all(one._heard for one in feeds)

        assert await until(all_hear, 30)
        read = dict(rows(dsn, "select stream, count(*) from position group by stream"))
        silent = await _silenced(feeds)
        assert sorted((line["stream"], line["partitions"]) for line in silent) == sorted(read.items())
        assert all(line["first"] == [*range(min(line["partitions"], 5))] for line in silent)

        (line,) = await _silenced(feeds[-1:])
        assert (line["stream"], line["partitions"], line["first"]) == (feeds[-1].stream.name, 1, [feeds[-1].p])
        await beat(admin, "a", 0)
        assert await handled(dsn, 1)


async def _silenced(feeds: Sequence[Feed]) -> list[dict]:
    """What is said once these hear nothing: what their consumers send is an earlier one's, and nobody's. They begin again."""
    before = {}
    with capture_logs() as lines:
        for one in feeds:
            one._generation += 1
            before[one] = one._generation

        async def told_and_follow() -> bool:
            told = {line["stream"] for line in lines if line["event"] == "feed_silent"}
            return told >= {one.stream.name for one in feeds} and all(one._generation > before[one] for one in feeds)

        assert await until(told_and_follow, 30)
        return [line for line in lines if line["event"] == "feed_silent"]


async def _in_hand(dsn: str) -> bool:
    """Whether a batch is under way: its transaction has moved the position and not committed."""
    return bool(
        rows(dsn, "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'")
    )


async def test_commands_of_two_senders_have_lanes_of_their_own():
    ours = lane_filter("automation", streams.CMD_CONVERSATION, 3)
    theirs = lane_filter("notification", streams.CMD_CONVERSATION, 3)
    assert ours != theirs


async def test_a_service_may_publish_only_its_own_subjects(servers, dsn):
    async with prepared(servers) as (bus, admin), replica(servers, bus, dsn) as runtime:
        with pytest.raises(Exception, match=r"(?i)permissions|timeout"):
            await runtime.js.publish("evt.identity.acc1.x.agent_changed", b"{}", timeout=1)
        assert not await admin.stored("EVT_IDENTITY")
