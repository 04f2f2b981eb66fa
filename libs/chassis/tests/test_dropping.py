"""Dropping whole accounts on real servers: nothing of the one is left, and the one beside it misses nothing."""

import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from structlog.testing import capture_logs

from relevo.chassis import Consumer, Received, Service, Tx, dropper, dropping, topology
from relevo.chassis.archive import Archive
from relevo.chassis.bus import until
from relevo.chassis.dropper import Dropper
from relevo.chassis.objects import Folder
from relevo.chassis.service import Runtime
from relevo.chassis.settings import ServiceSettings
from relevo.chassis.testing import Admin, admin_of, chassis_database
from relevo.contracts import streams
from relevo.contracts.accounts import DropAccount
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import service_grants
from relevo.contracts.identity import PLATFORM
from relevo.contracts.notification import NotificationCreated

MARK = "marker-0815"
LONG_AGO = date(2025, 1, 1)
POINTS = (
    "dropping.before_files",
    "dropping.after_messages",
    "dropping.after_log",
    "dropping.after_segment",
    "dropping.before_tables",
    "dropping.before_objects",
    "dropping.before_done",
)
ALARMS = {"stream_lost_messages", "stream_went_back", "lane_refused", "partition_refused", "feed_gap"}
TABLES = (
    "create table said (id uuid primary key, account_id uuid not null, words text)",
    # Sorted before what it refers to, as text and in parts.
    (
        "create table answered (account_id text not null, said_id uuid not null references said, words text, day date)"
        " partition by range (day)"
    ),
    "create table answered_2026 partition of answered for values from ('2026-01-01') to ('2027-01-01')",
    "create table answered_2027 partition of answered for values from ('2027-01-01') to ('2028-01-01')",
    # Two that refer to each other, and one whose rows a trigger writes while others go.
    "create table lefts (id uuid primary key, account_id uuid not null, right_id uuid)",
    "create table rights (id uuid primary key, account_id uuid not null, left_id uuid references lefts on delete cascade)",
    "alter table lefts add foreign key (right_id) references rights on delete set null",
    "create table a_trail (account_id uuid not null, words text)",
    (
        "create function trail() returns trigger language plpgsql as"
        " $$ begin insert into a_trail values (old.account_id, old.words); return old; end $$"
    ),
    "create trigger trailed after delete on said for each row execute function trail()",
)


class Crash(BaseException):
    """The process dies here."""


async def nothing(_batch: Sequence[Received], _tx: Tx) -> None:
    """Of streams that a test has nothing in."""


async def hear(batch: Sequence[Received], tx: Tx) -> None:
    for one in batch:
        await tx.execute(
            text("insert into heard (account_id, id, title) values (cast(:account as uuid), :id, :title)"),
            {"account": one.account, "id": one.data.notification_id, "title": one.data.title},
        )


CONSUMERS = {
    "notification": (Consumer(streams.EVT_CONVERSATION, nothing), Consumer(streams.CMD_NOTIFICATION, nothing)),
    "realtime": (
        Consumer(streams.EVT_CONVERSATION, nothing),
        Consumer(streams.EVT_PRESENCE, nothing),
        Consumer(streams.EVT_NOTIFICATION, hear),
    ),
}


class World:
    """An owner and a reader, two accounts, and what was said in them."""

    def __init__(self, servers, bus, admin: Admin, files: Path) -> None:
        self.bus, self.admin, self.files = bus, admin, files
        self.owner = chassis_database(servers, *TABLES)
        self.reader = chassis_database(servers, "create table heard (account_id uuid, id text, title text)")
        self.servers = servers
        self.gone, self.other = new_id(), new_id()
        self.told: list[str] = []

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
        consumers = (*CONSUMERS[name], Consumer(streams.CMD_ERASURE, nothing))
        runtime = Runtime(Service(name, settings, "none", consumers))
        await runtime.start()
        try:
            yield runtime
        finally:
            await runtime.stop()

    async def tell(self, owner: Runtime, account: str, words: str, count: int = 6) -> None:
        async with owner.database.begin(account) as tx:
            for _ in range(count):
                id_ = new_id()
                event = NotificationCreated(
                    notification_id=id_, agent_id=new_id(), kind="message", title=words, body="", created_at=now()
                )
                tx.emit(event, account=account, entity=event.agent_id)
                if account == self.other:
                    self.told.append(id_)
                values = {"id": id_, "account": account, "words": words}
                await tx.execute(
                    text("insert into said values (cast(:id as uuid), cast(:account as uuid), :words)"), values
                )
                for day in ("2026-02-03", "2027-02-03"):
                    await tx.execute(
                        text("insert into answered values (:account, cast(:id as uuid), :words, cast(:day as date))"),
                        values | {"day": day},
                    )
            pair = {"left": new_id(), "right": new_id(), "account": account}
            for statement in (
                "insert into lefts values (cast(:left as uuid), cast(:account as uuid))",
                "insert into rights values (cast(:right as uuid), cast(:account as uuid), cast(:left as uuid))",
                "update lefts set right_id = cast(:right as uuid) where id = cast(:left as uuid)",
            ):
                await tx.execute(text(statement), pair)

    def rows(self, dsn: str, query: str) -> list[tuple]:
        with psycopg.connect(self.servers.inspecting(dsn)) as connection:
            return connection.execute(query).fetchall()

    async def published(self) -> None:
        async def there() -> bool:
            return self.rows(self.owner, "select count(*) from outbox where stream_seq is null") == [(0,)]

        assert await until(there, 90)

    def heard(self, account: str) -> list[str]:
        return sorted(id_ for (id_,) in self.rows(self.reader, f"select id from heard where account_id = '{account}'"))

    async def others_heard(self) -> None:
        async def there() -> bool:
            return self.heard(self.other) == sorted(self.told)

        assert await until(there, 90), (len(self.heard(self.other)), len(self.told))

    def dropper(self, owner: Runtime) -> Dropper:
        return Dropper(
            bus=owner.bus,
            database=owner.database,
            database_url=self.owner if owner.name == "notification" else self.reader,
            store=Folder(self.files / "archive"),
            settle=timedelta(0),
            columns={},
        )

    async def drop(self, owner: Runtime, *, sweep: bool = False) -> None:
        told = DropAccount(drop_id=new_id(), account_id=self.gone, asked_at=now(), sweep=sweep)
        async with owner.database.begin(PLATFORM) as tx:
            await dropping.add(tx, told)
        await owner.gone.refresh(owner.database)

    async def finished(self, owner: Runtime) -> None:
        dsn = self.owner if owner.name == "notification" else self.reader

        async def done() -> bool:
            await self.dropper(owner).work()
            return self.rows(dsn, "select count(*) from account_drops where done_at is null") == [(0,)]

        assert await until(done, 90), self.rows(dsn, "select step from account_drops")

    async def places(self, mark: str = MARK) -> set[str]:
        """Where the mark, or the account's id, is: tables, streams, segments. What says that it is gone, aside."""
        found = set()
        kept = "'account_drops', 'account_drop_objects'"
        for dsn in (self.owner, self.reader):
            tables = self.rows(
                dsn,
                "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
                f" and not relispartition and relname not in ({kept})",
            )
            for (table,) in tables:
                body = " || convert_from(t.body, 'UTF8')" if table in {"outbox", "dead_letters"} else ""
                of_the_platform = " and subject not like 'cmd.accounts.%'" if table == "outbox" else ""
                if self.rows(
                    dsn, f"select 1 from {table} t where strpos(t::text{body}, '{mark}') > 0{of_the_platform}"
                ):
                    found.add(table)
        for subject, _, body in await self.admin.stored("EVT_NOTIFICATION"):
            if mark.encode() in body or mark in subject:
                found.add("stream")
        for path in self.files.rglob("*.gz"):
            if mark.encode() in gzip.decompress(path.read_bytes()):
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
async def world(servers, tmp_path, monkeypatch) -> AsyncIterator[World]:
    async def not_by_itself(_self, _stopping) -> None:
        """Drops are worked on where a test says so."""

    monkeypatch.setattr(Dropper, "run", not_by_itself)
    bus = servers.create_bus()
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        yield World(servers, bus, admin, tmp_path)


EVERYWHERE = {"outbox", "stream", "said", "answered", "segment"}


async def test_wherever_it_dies_it_goes_on_and_nothing_is_left_while_the_other_account_misses_nothing(
    world, monkeypatch
):
    monkeypatch.setattr(dropper, "PAGE", 7)
    monkeypatch.setattr(dropping, "BLOCKS", 1)
    with capture_logs() as logs:
        async with world.running("notification") as owner:
            for _ in range(3):
                await world.tell(owner, world.gone, MARK)
                await world.tell(owner, world.other, "kept")
            await world.published()
            await world.age()
            for _ in range(3):
                await world.tell(owner, world.other, "kept")
                await world.tell(owner, world.gone, MARK)  # the lanes' ends
            await world.published()
            assert await world.places() == EVERYWHERE
            others = world.rows(world.owner, f"select * from said where account_id = '{world.other}' order by id")
            await world.drop(owner)
            reached: set[str] = set()

            def die(name: str) -> None:
                if name in POINTS and name not in reached:
                    reached.add(name)
                    raise Crash

            monkeypatch.setattr(dropper, "crash_point", die)
            while reached != set(POINTS):
                with pytest.raises(Crash):
                    await world.finished(owner)
            await world.finished(owner)
            assert await world.places() == set()
            assert await world.places(world.gone) == set()
            counts = world.rows(world.owner, "select tables, log, messages from account_drops")[0]
            # What went along with what it refers to is in nobody's count.
            assert counts[0] == {"said": 36, "answered": 72, "lefts": 6, "a_trail": 36}
            # The page of messages in whose midst it died is uncounted.
            assert counts[1:] == (36, 36 - dropper._AT_ONCE)
            assert (
                world.rows(world.owner, f"select * from said where account_id = '{world.other}' order by id") == others
            )
            there = {str(path.relative_to(world.files / "archive")) for path in world.files.rglob("*.gz")}
            assert there == {name for (name,) in world.rows(world.owner, "select name from segments")}
            (said,) = world.rows(world.owner, "select count(*) from outbox where subject like '%account_dropped'")
            assert said == (1,)
        # The relay takes its lanes over, a reader begins at the log's beginning: neither has anything to complain of.
        async with world.running("notification") as owner, world.running("realtime"):
            await world.tell(owner, world.other, "after")
            await world.others_heard()
    assert world.heard(world.gone) == []
    assert {line["event"] for line in logs} & ALARMS == set()


async def test_what_comes_after_the_end_is_refused_in_one_line_and_nobody_tries_it_again(world):
    async with world.running("notification") as owner, world.running("realtime") as reader:
        await world.tell(owner, world.gone, "before")

        async def there() -> bool:
            return len(world.heard(world.gone)) == 6

        assert await until(there, 90)
        with capture_logs() as logs:
            await world.drop(reader)
            await world.finished(reader)
            assert world.heard(world.gone) == []
            for _ in range(3):
                await world.tell(owner, world.gone, "late")
                await world.tell(owner, world.other, "beside")
            await world.others_heard()

            async def handled() -> bool:
                last = "select max(stream_seq) from outbox where stream = 'EVT_NOTIFICATION'"
                seen = "select max(seq) from position where stream = 'EVT_NOTIFICATION'"
                return world.rows(world.reader, seen) == world.rows(world.owner, last)

            assert await until(handled, 90)
        assert world.heard(world.gone) == []
        assert world.rows(world.reader, "select count(*) from dead_letters") == [(0,)]
        lines = [line for line in logs if line["event"] == "account_is_gone"]
        assert [line["account"] for line in lines] == [world.gone]


async def test_a_message_that_came_back_without_its_row_is_not_published_again_and_refuses_no_lane(world):
    """As from a copy of the broker's store: the stream has what the log has no more."""
    async with world.running("notification") as owner:
        await world.tell(owner, world.other, "kept", 1)
        await world.tell(owner, world.gone, MARK)
        await world.published()
        await world.drop(owner)
    with psycopg.connect(world.owner) as connection:
        connection.execute(f"delete from outbox where subject like '%{world.gone}%'")
        connection.execute("update relay_mark set dropped = true where event_id not in (select event_id from outbox)")
    with capture_logs() as logs:
        async with world.running("notification") as owner:
            await world.tell(owner, world.other, "after")
            await world.published()
            await world.finished(owner)
        async with world.running("notification") as owner:
            await world.tell(owner, world.other, "and after")
            await world.published()
    assert await world.places() == set()
    assert {line["event"] for line in logs} & {"lane_refused"} == set()


async def test_a_segment_reaches_as_far_without_the_account_as_it_did_with_it(world):
    """The chain of segments stays whole where the account's rows were a segment's last, or all of them."""
    async with world.running("notification") as owner:
        await world.tell(owner, world.other, "kept", 1)
        await world.tell(owner, world.gone, MARK, 40)
        await world.published()
        await world.age()
        await world.tell(owner, world.other, "after", 3)
        await world.published()
        before = world.rows(
            world.owner, "select stream, p, previous_seq, first_seq, last_seq from segments order by 1, 2"
        )
        await world.drop(owner)
        await world.finished(owner)
        assert (
            world.rows(world.owner, "select stream, p, previous_seq, first_seq, last_seq from segments order by 1, 2")
            == before
        )
        async with world.running("realtime"):
            await world.others_heard()
    assert await world.places() == set()
    with capture_logs() as logs:  # whose lanes end with what was archived, and is gone
        async with world.running("notification") as owner:
            await world.tell(owner, world.other, "and after")
            await world.published()
    assert {line["event"] for line in logs} & ALARMS == set()


names = st.sampled_from("abcdef")


@given(st.sets(names), st.sets(st.tuples(names, names)))
def test_whoever_refers_to_another_comes_before_it(tables: set[str], references: set[tuple[str, str]]) -> None:
    ordered = dropping._children_first(sorted(tables), references)
    assert sorted(ordered) == sorted(tables)
    # Of references that go one way only, every one is kept.
    downwards = {(child, parent) for child, parent in references if child < parent}
    ordered = dropping._children_first(sorted(tables, reverse=True), downwards)
    place = {name: at for at, name in enumerate(ordered)}
    assert all(place[child] < place[parent] for child, parent in downwards if {child, parent} <= tables)
