"""Erasing people on real servers: notification's log is gone through, realtime reads its stream and must miss nothing."""

import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from relevo.chassis import Consumer, Projection, Received, Service, Tx, eraser, erasing, feed, topology
from relevo.chassis.archive import Archive
from relevo.chassis.bus import BusError, until
from relevo.chassis.eraser import Eraser
from relevo.chassis.erasing import Held, Personal
from relevo.chassis.objects import Folder
from relevo.chassis.rebuild import Rebuild
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database, dead_letter
from relevo.contracts import streams
from relevo.contracts.base import new_id, now
from relevo.contracts.erasure import ErasePerson
from relevo.contracts.grants import service_grants
from relevo.contracts.notification import NotificationCreated, Notify

ACCOUNT = new_id()
AGENTS = [new_id() for _ in range(6)]
MARK = "marker-4711"
LONG_AGO = date(2025, 1, 1)
POINTS = (
    "erasing.after_tables",
    "erasing.after_log",
    "erasing.after_segment",
    "erasing.after_manifest",
    "erasing.after_message",
    "erasing.after_object",
    "erasing.before_done",
)
ALARMS = {"stream_lost_messages", "stream_went_back", "lane_refused", "partition_refused", "feed_gap"}
SAID = Held("said", ("words",), "account = :account and conversation = any(cast(:conversations as text[]))")


async def nothing(_batch: Sequence[Received], _tx: Tx) -> None:
    """Of streams that a test has nothing in."""


async def hear(batch: Sequence[Received], tx: Tx) -> None:
    """Keep every notification, as it was told."""
    for one in batch:
        await tx.execute(
            text("insert into heard (id, agent, title) values (:id, :agent, :title)"),
            {"id": one.data.notification_id, "agent": one.data.agent_id, "title": one.data.title},
        )


HEARD = Projection("heard", ("heard",), {streams.EVT_NOTIFICATION: hear})
CONSUMERS = {
    "notification": (Consumer(streams.EVT_CONVERSATION, nothing), Consumer(streams.CMD_NOTIFICATION, nothing)),
    "realtime": (
        Consumer(streams.EVT_CONVERSATION, nothing),
        Consumer(streams.EVT_PRESENCE, nothing),
        Consumer(streams.EVT_NOTIFICATION, hear),
    ),
}


class Crash(BaseException):
    """The process dies here."""


class World:
    """Both services' databases and bus, what was said, and who was erased."""

    def __init__(self, servers, bus, admin: Admin, files: Path) -> None:
        self.bus, self.admin, self.files = bus, admin, files
        self.owner = chassis_database(servers, "create table said (account text, conversation text, words text)")
        self.reader = chassis_database(
            servers, "create table heard (n bigint generated always as identity, id text, agent text, title text)"
        )
        self.told: list[tuple[str, str, str]] = []

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[Runtime]:
        grants = service_grants(name)
        settings = ServiceSettings(
            database_url=self.owner if name == "notification" else self.reader,
            nats_url=self.bus.nats_url,
            nats_credentials=self.bus.user(name, publish=grants.publish, subscribe=grants.subscribe),
            partition_lease_seconds=1.0,
            files=self.files,
            allow_unsafe_broker=True,
        )
        # Erasures are worked on where a test says so.
        runtime = Runtime(
            Service(name, settings, "none", (*CONSUMERS[name], Consumer(streams.CMD_ERASURE, erasing.hear)))
        )
        await runtime.start()
        try:
            yield runtime
        finally:
            await runtime.stop()

    async def tell(self, owner: Runtime, conversation: str, words: str, agents: Sequence[str] = AGENTS) -> None:
        """Something for each of these agents."""
        async with owner.database.begin(ACCOUNT) as tx:
            for agent in agents:
                id_ = new_id()
                event = NotificationCreated(
                    notification_id=id_,
                    agent_id=agent,
                    kind="message",
                    conversation_id=conversation,
                    title=words,
                    body="",
                    created_at=now(),
                )
                tx.emit(event, account=ACCOUNT, entity=agent)
                self.told.append((id_, agent, conversation))
            await tx.execute(
                text("insert into said values (:account, :conversation, :words)"),
                {"account": ACCOUNT, "conversation": conversation, "words": words},
            )

    async def published(self) -> None:
        async def there() -> bool:
            return self.rows(self.owner, "select count(*) from outbox where stream_seq is null") == [(0,)]

        assert await until(there, 30)

    def rows(self, dsn: str, query: str) -> list[tuple]:
        with psycopg.connect(dsn) as connection:
            return connection.execute(query).fetchall()

    async def heard(self) -> None:
        """Wait until all is heard; each thing once, each agent's in order."""

        async def there() -> bool:
            return self.rows(self.reader, "select count(*) from heard")[0][0] >= len(self.told)

        assert await until(there, 30), self.rows(self.reader, "select count(*) from heard")
        for agent in AGENTS:
            found = [
                id_ for (id_,) in self.rows(self.reader, f"select id from heard where agent = '{agent}' order by n")
            ]
            assert found == [id_ for id_, whose, _ in self.told if whose == agent]

    def eraser(self, owner: Runtime) -> Eraser:
        return Eraser(
            bus=owner.bus,
            database=owner.database,
            database_url=self.owner,
            store=Folder(self.files / "archive"),
            personal=Personal(held=(SAID,)),
            settle=timedelta(0),
        )

    async def erase(self, owner: Runtime, conversation: str) -> str:
        told = ErasePerson(erasure_id=new_id(), contact_id=new_id(), conversation_ids=(conversation,), asked_at=now())
        async with owner.database.begin(ACCOUNT) as tx:
            await erasing.add(tx, ACCOUNT, told)
        return told.erasure_id

    async def finished(self, owner: Runtime) -> None:
        async def done() -> bool:
            await self.eraser(owner).work()
            return self.rows(self.owner, "select count(*) from erasures where done_at is null") == [(0,)]

        assert await until(done, 30), self.rows(self.owner, "select step, place from erasures")

    async def places(self) -> set[str]:
        """Where the mark is."""
        found = {
            table
            for table, whole in (("outbox", "convert_from(t.body, 'UTF8')"), ("said", "t::text"))
            if self.rows(self.owner, f"select 1 from {table} t where strpos({whole}, '{MARK}') > 0")
        }
        for _, _, body in await self.admin.stored("EVT_NOTIFICATION"):
            if MARK.encode() in body:
                found.add("stream")
        for path in self.files.rglob("*.gz"):
            if MARK.encode() in gzip.decompress(path.read_bytes()):
                found.add("segment")
        return found

    async def age(self) -> None:
        """As if all that is in the outbox were long ago, and archived."""
        following = LONG_AGO + timedelta(days=1)
        with psycopg.connect(self.owner) as connection:
            connection.execute(
                f"create table outbox_{LONG_AGO:%Y%m%d} partition of outbox"
                f" for values from ('{LONG_AGO} 00:00+00') to ('{following} 00:00+00')"
            )
            connection.execute(f"update outbox set created_at = '{LONG_AGO} 12:00+00'")
        done = await Archive("notification", self.owner, Folder(self.files / "archive"), timedelta(days=7)).run()
        assert done is not None
        assert done.days == 1


@pytest.fixture
async def world(servers, tmp_path) -> AsyncIterator[World]:
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        yield World(servers, bus, admin, tmp_path)


async def test_who_is_behind_or_stopped_at_a_hole_misses_nothing_and_raises_no_alarm(world, monkeypatch):
    monkeypatch.setattr(feed, "PULL", 8)
    monkeypatch.setattr(eraser, "PAGE", 7)
    gone, other = new_id(), new_id()
    with capture_logs() as logs:
        async with world.running("notification") as owner:
            async with world.running("realtime"):
                await world.tell(owner, other, "before")
                await world.tell(owner, gone, MARK)  # the reader's positions and the lanes' ends are these
                await world.heard()
            for _ in range(3):  # and these are not read yet
                await world.tell(owner, gone, MARK)
                await world.tell(owner, other, "between")
                await world.tell(owner, gone, MARK)
            await world.published()
            assert await world.places() == {"outbox", "said", "stream"}
            await world.erase(owner, gone)
            await world.finished(owner)
            assert await world.places() == set()
            async with world.running("realtime"):
                await world.heard()
        async with world.running("notification") as owner, world.running("realtime") as reader:
            await world.tell(owner, other, "after")
            await world.heard()
            async with reader.reader._turn:  # its handler takes long
                for _ in range(6):
                    await world.tell(owner, gone, MARK)
                    await world.tell(owner, other, "late")
                await world.published()
                await world.erase(owner, gone)
                await world.finished(owner)
            await world.heard()
            titles = world.rows(world.reader, "select title, count(*) from heard group by 1")
            assert {title for title, _ in titles} >= {"", "before", "between", "after", "late"}
            # What was in its hands already was heard as it was; nothing else.
            late = dict(titles).get(MARK, 0)
            assert late < len([one for one in world.told if one[2] == gone])
    assert {line["event"] for line in logs} & ALARMS == set()


async def test_a_loss_beside_a_hole_still_is_one(world):
    gone, other = new_id(), new_id()
    async with world.running("notification") as owner:
        await world.tell(owner, other, "kept", AGENTS[:1])
        await world.tell(owner, other, "lost", AGENTS[:1])
        await world.tell(owner, gone, MARK, AGENTS[:1])
        await world.published()
        await world.erase(owner, gone)
        await world.finished(owner)
        ((seq,),) = world.rows(
            world.owner, "select stream_seq from outbox where convert_from(body, 'UTF8') like '%lost%'"
        )
        await world.admin.nats.jetstream().delete_msg("EVT_NOTIFICATION", seq)
    with capture_logs() as logs:
        async with world.running("notification"):

            async def again() -> bool:
                waiting = "select count(*) from outbox where stream_seq is null and stream = 'EVT_NOTIFICATION'"
                return world.rows(world.owner, waiting) == [(2,)]

            assert await until(again, 30)
    assert [line["again"] for line in logs if line["event"] == "stream_lost_messages"] == [2]


async def test_a_projection_is_rebuilt_over_the_holes(world):
    gone, other = new_id(), new_id()
    async with world.running("notification") as owner, world.running("realtime") as reader:
        for words in ("one", "two", "three"):
            await world.tell(owner, other, words)
            await world.tell(owner, gone, MARK)
        await world.heard()
        await world.erase(owner, gone)
        await world.finished(owner)
        await Rebuild(HEARD, bus=reader.bus, database=reader.database, owned=reader.history._own).run()
        rebuilt = world.rows(world.reader, "select id, title from heard")
        assert sorted(id_ for id_, _ in rebuilt) == sorted(id_ for id_, _, _ in world.told)
        expected = {id_: "" for id_, _, conversation in world.told if conversation == gone}
        assert {id_: title for id_, title in rebuilt if id_ in expected} == expected


async def test_wherever_it_dies_it_goes_on_and_segments_hold_nothing_either(world, monkeypatch):
    gone, other = [new_id() for _ in POINTS], new_id()
    async with world.running("notification") as owner:
        for one in gone:
            await world.tell(owner, one, MARK)
            await world.tell(owner, other, "kept")
        await world.published()
        await world.age()
        for one in gone:
            await world.tell(owner, one, MARK)
        await world.published()
        assert await world.places() == {"outbox", "segment", "said", "stream"}
        reached: set[str] = set()
        for point, one in zip(POINTS, gone, strict=True):

            def die(name: str, at: str = point) -> None:
                if name == at and at not in reached:
                    reached.add(at)
                    raise Crash

            monkeypatch.setattr(eraser, "crash_point", die)
            await world.erase(owner, one)
            with pytest.raises(Crash):
                await world.finished(owner)
            await world.finished(owner)
        assert reached == set(POINTS)
        assert await world.places() == set()
        assert world.rows(
            world.owner, "select count(*) from erasing_messages union all select count(*) from erasing_objects"
        )
        segments = world.rows(world.owner, "select name from segments")
        there = {str(path.relative_to(world.files / "archive")) for path in world.files.rglob("*.gz")}
        assert there == {name for (name,) in segments}
        told = [
            row for row in world.rows(world.owner, "select subject from outbox") if row[0].endswith("person_erased")
        ]
        assert len(told) == len(gone)  # each said once
        async with world.running("realtime"):
            await world.heard()


async def test_a_shared_stream_is_swept_of_what_the_log_of_its_sender_does_not_say_any_more(world):
    gone, other = new_id(), new_id()
    async with world.running("notification") as owner:
        for conversation in (gone, other):
            command = Notify(
                dedup_key=new_id(), kind="message", template="t", data={"text": MARK}, conversation_id=conversation
            )
            await world.admin.publish(command, account=ACCOUNT, entity=conversation)
        told = ErasePerson(
            erasure_id=new_id(), contact_id=new_id(), conversation_ids=(gone,), asked_at=now(), sweep=True
        )
        async with owner.database.begin(ACCOUNT) as tx:
            await erasing.add(tx, ACCOUNT, told)
        await world.finished(owner)
        assert [other.encode() in body for _, _, body in await world.admin.stored("CMD_NOTIFICATION")] == [True]


async def test_nobody_deletes_in_a_stream_that_is_anothers(world):
    async with world.running("notification") as owner:
        await world.admin.publish(dead_letter("ingest"), account=ACCOUNT, entity=new_id())
        for stream in (streams.DEAD, streams.EVT_CONVERSATION, streams.CMD_ERASURE, streams.METRICS):
            with pytest.raises((BusError, TimeoutError)):
                await owner.bus.request(f"$JS.API.STREAM.MSG.DELETE.{stream.name}", {"seq": 1}, timeout=0.3)
        with pytest.raises((BusError, TimeoutError)):
            await owner.bus.request("$JS.API.STREAM.PURGE.EVT_NOTIFICATION", {}, timeout=0.3)
        assert len(await world.admin.stored("DEAD")) == 1


@pytest.mark.parametrize("more", [0, 50])
def test_an_id_names_somebody_anywhere_and_a_senders_key_only_beside_its_inbox(more):
    contact, merged, talk, inbox, key = new_id(), new_id(), new_id(), new_id(), "b" * 26
    talks = (talk, *(new_id() for _ in range(more)))
    person = erasing.Person(new_id(), ACCOUNT, contact, (merged,), talks, ((inbox, key),), now())
    subject = f"evt.x.1.{ACCOUNT}.y.z".encode()
    for one in (contact, merged, talk):
        assert person.concerned(subject, b"{}", f'{{"of": "{one}"}}'.encode())
        assert person.concerned(f"evt.x.1.{ACCOUNT}.{one}.z".encode(), b"{}", b"")
        assert not person.concerned(f"evt.x.1.{new_id()}.y.z".encode(), b"{}", one.encode())
    assert person.concerned(f"inbound.1.{ACCOUNT}.{inbox}.{key}.message".encode(), b"{}", b"")
    assert not person.concerned(f"inbound.1.{ACCOUNT}.{new_id()}.{key}.message".encode(), b"{}", b"")
    assert not person.concerned(f"inbound.1.{ACCOUNT}.{inbox}.{key}b.message".encode(), b"{}", b"")
    assert not person.concerned(subject, b"{}", new_id().encode())
