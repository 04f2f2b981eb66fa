"""Outgoing webhooks on a real PostgreSQL against real HTTP servers, by a clock that the test sets."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from relevo.chassis import tenancy
from relevo.chassis.database import Database, Pool
from relevo.chassis.testing import chassis_database
from relevo.chassis.webhooks import DOORS, Limits, Paused, Sender, deliveries, endpoints, sender, tables
from relevo.chassis.webhooks.deliveries import NewDelivery
from relevo.chassis.webhooks.endpoints import Endpoint, Subscription
from relevo.contracts.base import new_id

KEY = bytes(32)
START = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
PATIENT = Limits(seconds=30, allow_private=True)


class Receiver:
    """Somebody's endpoint: takes what comes, and answers what `answer` says of it (a status; None: never)."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], int | None] = lambda _: 200
        self.headers = ""
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.asked = 0
        self.port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=t0p"

    def events(self) -> list[tuple[str, int]]:
        """The lane and number of what was taken, each delivery at its first coming."""
        seen = {headers["webhook-id"]: json.loads(body) for headers, body in reversed(self.taken)}
        first = list(dict.fromkeys(headers["webhook-id"] for headers, _ in self.taken))
        return [(seen[id_]["lane"], seen[id_]["n"]) for id_ in first]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.asked += 1
                assert request.startswith("POST /hook?token=t0p ")
                status = self.answer(json.loads(body))
                if status is None:
                    await asyncio.Event().wait()
                if status == 200:
                    self.taken.append((headers, body))
                writer.write(f"HTTP/1.1 {status} x\r\n{self.headers}content-length: 2\r\n\r\nok".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._connections):
                writer.transport.abort()
            await asyncio.sleep(0)


class World:
    """A database, an endpoint at a receiver, and a clock."""

    def __init__(self, database: Database, receiver: Receiver) -> None:
        self.database = database
        self.receiver = receiver
        self.at = START
        self.account = new_id()
        self.secret = sender.new_secret()
        self.paused: list[Paused] = []
        self.senders: list[Sender] = []
        self.numbers: dict[str, int] = defaultdict(int)
        self.sender = self.another()

    def another(self, limits: Limits = PATIENT) -> Sender:
        async def tell(_: Any, paused: Paused) -> None:
            self.paused.append(paused)

        made = Sender(self.database, key=KEY, limits=limits, paused=tell, clock=lambda: self.at)
        self.senders.append(made)
        return made

    async def endpoint(self, ordered_by: Any = "conversation", url: str | None = None) -> Subscription:
        id_ = new_id()
        made = Endpoint(
            id=id_,
            account_id=self.account,
            url=url or self.receiver.url,
            description="",
            types=(),
            ordered_by=ordered_by,
            enabled=True,
            version=1,
            created_at=self.at,
            updated_at=self.at,
            updated_by="agent:a",
        )
        async with self.database.begin(self.account) as tx:
            await endpoints.insert(tx, made, sender.seal(KEY, self.secret, id_))
        return Subscription(id_, self.account, (), ordered_by)

    async def add(self, to: Subscription, *lanes: str) -> None:
        new = []
        for lane in lanes:
            self.numbers[lane] += 1
            body = json.dumps({"lane": lane, "n": self.numbers[lane]})
            new.append(NewDelivery(to, lane, new_id(), "t", body))
        async with self.database.begin(self.account) as tx:
            await deliveries.add(tx, new, self.at)

    async def send(self, sender_: Sender | None = None) -> None:
        """All that is due now."""
        while await (sender_ or self.sender).send_due():
            pass

    async def wait(self, minutes: int, step: timedelta = timedelta(minutes=1)) -> None:
        end = self.at + timedelta(minutes=minutes)
        while self.at < end:
            self.at += step
            await self.send()

    async def read(self, to: Subscription) -> Endpoint:
        async with self.database.begin(self.account) as tx:
            found = await endpoints.read(tx, self.account, to.id)
        assert found is not None
        return found

    async def rows(self, to: Subscription, state: Any = None) -> list[Any]:
        async with self.database.begin(self.account) as tx:
            found = await deliveries.deliveries(tx, self.account, to.id, state=state, after=None, limit=1000)
        return list(reversed(found))

    async def lanes(self) -> int:
        async with self.database.begin(self.account) as tx:
            return (await tx.execute(text("select count(*) from webhook_lanes"))).scalar_one()

    def in_order(self) -> bool:
        of: dict[str, list[int]] = defaultdict(list)
        for lane, n in self.receiver.events():
            of[lane].append(n)
        return all(numbers == list(range(1, self.numbers[lane] + 1)) for lane, numbers in of.items()) and set(
            of
        ) == set(self.numbers)

    def signed(self, headers: dict[str, str], body: bytes) -> bool:
        """As a receiver verifies it, written down here anew."""
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        good = "v1," + base64.b64encode(hmac.digest(key, told, hashlib.sha256)).decode()
        fresh = abs(int(headers["webhook-timestamp"]) - self.at.timestamp()) < 300
        return fresh and good in headers["webhook-signature"].split(" ")


@pytest.fixture
async def world(servers) -> AsyncIterator[World]:
    dsn = chassis_database(servers, *tables.DDL)
    tenancy.guard(dsn, DOORS)
    database = Database(Pool(servers.serving(dsn), service="test", size=8, lease_seconds=4), "test")
    async with Receiver().listening() as receiver:
        world = World(database, receiver)
        try:
            yield world
        finally:
            for one in world.senders:
                await one.close()
            await database.close()


async def test_each_is_posted_once_signed_and_in_order(world):
    to = await world.endpoint()
    await world.add(to, "a", "b", "a", "a", "b")
    await world.send()
    assert world.in_order()
    assert len(world.receiver.taken) == 5
    assert all(world.signed(headers, body) for headers, body in world.receiver.taken)
    assert not world.signed(world.receiver.taken[0][0], world.receiver.taken[0][1] + b" ")
    assert {headers["webhook-id"] for headers, _ in world.receiver.taken} == {row.id for row in await world.rows(to)}
    assert {row.state for row in await world.rows(to)} == {"delivered"}
    assert await world.lanes() == 0
    await world.wait(3)
    assert world.receiver.asked == 5


async def test_the_same_event_again_is_not_another_delivery(world):
    to = await world.endpoint()
    new = NewDelivery(to, "a", new_id(), "t", '{"lane": "a", "n": 1}')
    for _ in range(2):
        async with world.database.begin(world.account) as tx:
            await deliveries.add(tx, [new, new], world.at)
        await world.send()
    assert world.receiver.asked == 1
    assert await world.lanes() == 0


@pytest.mark.parametrize("ordered_by", ["conversation", "endpoint"])
async def test_an_endpoint_that_comes_back_after_an_hour_gets_everything_in_order(world, ordered_by):
    to = await world.endpoint(ordered_by)
    healthy = await world.endpoint(url=world.receiver.url)
    world.receiver.answer = lambda _: 503
    await world.add(to, *"abcabdaebc")
    for _ in range(6):
        await world.wait(10, timedelta(minutes=2.5))
        await world.add(to, *"abf")
    # Everybody's failures in a row, then a request every five minutes: an endpoint that is down is not stormed.
    assert 10 <= world.receiver.asked <= 40, world.receiver.asked
    down = await world.read(to)
    assert down.failing_since is not None
    assert down.last_error == "answered 503"
    assert "t0p" not in str([(await world.rows(to))[0], down.last_error])
    world.receiver.answer = lambda _: 200
    await world.wait(6)
    assert world.in_order()
    assert all(
        world.signed(headers, body) or int(headers["webhook-timestamp"]) < world.at.timestamp() - 300
        for headers, body in world.receiver.taken
    )
    assert len(world.receiver.taken) == sum(world.numbers.values())
    if ordered_by == "endpoint":
        everything = [json.loads(body) for _, body in world.receiver.taken]
        rows = await world.rows(to)
        assert [row.entity_id for row in rows] == [one["lane"] for one in everything]
    assert {row.state for row in await world.rows(to)} == {"delivered"}
    well = await world.read(to)
    assert (well.failures, well.failing_since, well.last_error, well.paused_at) == (0, None, None, None)
    assert (await world.read(healthy)).last_tried_at is None
    assert world.paused == []


async def test_one_that_fails_at_random_gets_everything_in_order_from_several_replicas(world):
    to = await world.endpoint()
    luck = random.Random(7)
    world.receiver.answer = lambda _: luck.choice([200, 200, 500, 404])
    replicas = [world.sender, world.another(), world.another()]
    for _ in range(15):
        await world.add(to, *luck.choices("abcdef", k=4))
        world.at += timedelta(seconds=30)
        await asyncio.gather(*(world.send(one) for one in replicas))
    world.receiver.answer = lambda _: 200
    await world.wait(80, timedelta(minutes=10))
    assert world.in_order()
    assert len(world.receiver.taken) == sum(world.numbers.values())


async def test_one_that_hangs_is_left_in_time_and_holds_up_no_other(world):
    hanging = world.another(Limits(seconds=0.3, allow_private=True))
    to = await world.endpoint()
    world.receiver.answer = lambda _: None
    await world.add(to, "a")
    await hanging.send_due()
    (row,) = await world.rows(to)
    assert (row.state, row.last_status) == ("waiting", None)
    assert row.last_error == "no whole answer within 0.3 s"
    world.receiver.answer = lambda _: 200
    await world.wait(1)
    assert world.receiver.events() == [("a", 1)]


async def test_what_is_cut_off_in_the_middle_is_sent_again_when_its_claim_runs_out(world):
    dying = world.another()
    to = await world.endpoint()
    world.receiver.answer = lambda _: None
    await world.add(to, "a", "a")
    task = asyncio.create_task(dying.send_due())
    async with asyncio.timeout(30):
        while not world.receiver.asked:  # noqa: ASYNC110  (the server is told by nobody)
            await asyncio.sleep(0.01)
    task.cancel()
    await dying.close()
    world.receiver.answer = lambda _: 200
    await world.send()
    assert world.receiver.events() == []
    world.at += timedelta(seconds=91)
    await world.send()
    assert world.in_order()


async def test_who_dies_before_an_answer_is_noted_posts_it_again_under_the_same_id(world, monkeypatch):
    class Died(BaseException):
        pass

    def die(name):
        if name == "webhooks.after_attempt":
            raise Died

    to = await world.endpoint()
    await world.add(to, "a", "a")
    dying = world.another()
    with monkeypatch.context() as patched:
        patched.setattr(sender, "crash_point", die)
        with pytest.raises(Died):
            await dying.send_due()
    world.at += timedelta(seconds=91)
    await world.send()
    assert world.in_order()
    ids = [headers["webhook-id"] for headers, _ in world.receiver.taken]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]
    assert [row.state for row in await world.rows(to)] == ["delivered"] * 2


async def test_one_that_takes_nothing_for_a_day_is_paused_told_of_once_and_gets_everything_when_it_is_resumed(world):
    to = await world.endpoint()
    world.receiver.answer = lambda _: 500
    await world.add(to, *"aabbcc")
    await world.wait(24 * 60 + 90, timedelta(minutes=30))
    (told,) = world.paused
    assert (told.account_id, told.endpoint_id, told.host, told.error) == (
        world.account,
        to.id,
        "127.0.0.1",
        "answered 500",
    )
    assert (await world.read(to)).paused_at == told.at
    asked = world.receiver.asked
    world.receiver.answer = lambda _: 200
    await world.add(to, "a", "d")
    await world.wait(180, timedelta(minutes=30))
    assert world.receiver.asked == asked
    assert {row.state for row in await world.rows(to)} == {"waiting"}
    async with world.database.begin(world.account) as tx:
        await endpoints.resume(tx, world.account, to.id, at=world.at, by="agent:a")
    await world.send()
    assert world.in_order()
    assert len(world.paused) == 1


async def test_one_that_is_gone_is_paused_at_once(world):
    to = await world.endpoint()
    world.receiver.answer = lambda _: 410
    await world.add(to, "a", "b")
    await world.send()
    assert len(world.paused) == 1
    assert [row.state for row in await world.rows(to)] == ["waiting", "waiting"]


async def test_what_is_refused_for_a_day_is_given_up_and_what_waits_behind_it_goes_on(world):
    to = await world.endpoint()
    world.receiver.answer = lambda body: 422 if (body["lane"], body["n"]) == ("a", 1) else 200
    await world.add(to, "a", "a", "b")
    for _ in range(26):
        await world.wait(60, timedelta(minutes=30))
        await world.add(to, "b")
    assert [(row.state, row.last_status) for row in await world.rows(to, "failed")] == [("failed", 422)]
    assert ("a", 2) in world.receiver.events()
    assert world.paused == []
    (failed,) = await world.rows(to, "failed")
    world.receiver.answer = lambda _: 200
    async with world.database.begin(world.account) as tx:
        assert await deliveries.replay(tx, world.account, to.id, failed.id, world.at)
        assert not await deliveries.replay(tx, world.account, to.id, failed.id, world.at)
    await world.send()
    assert ("a", 1) in world.receiver.events()
    assert {row.state for row in await world.rows(to)} == {"delivered"}


async def test_what_is_skipped_holds_nothing_up(world):
    to = await world.endpoint("endpoint")
    world.receiver.answer = lambda body: 422 if body["n"] == 1 else 200
    await world.add(to, "a", "a")
    await world.send()
    first, _ = await world.rows(to)
    async with world.database.begin(world.account) as tx:
        assert await deliveries.skip(tx, world.account, to.id, first.id, world.at)
        assert not await deliveries.skip(tx, world.account, to.id, first.id, world.at)
    await world.send()
    assert world.receiver.events() == [("a", 2)]


async def test_an_overloaded_one_is_given_the_time_that_it_asks_for(world):
    to = await world.endpoint()
    world.receiver.answer = lambda _: 429
    world.receiver.headers = "Retry-After: 1800\r\n"
    await world.add(to, "a")
    await world.send()
    world.receiver.answer = lambda _: 200
    await world.wait(29)
    assert world.receiver.asked == 1
    await world.wait(2)
    assert world.receiver.events() == [("a", 1)]


async def test_two_secrets_sign_for_a_day_after_a_change(world):
    to = await world.endpoint()
    old, world.secret = world.secret, sender.new_secret()
    async with world.database.begin(world.account) as tx:
        sealed = sender.seal(KEY, world.secret, to.id)
        await endpoints.rotate(tx, world.account, to.id, sealed, at=world.at, by="agent:a")
    await world.add(to, "a")
    await world.send()
    ((headers, body),) = world.receiver.taken
    assert world.signed(headers, body)
    world.secret, new = old, world.secret
    assert world.signed(headers, body)
    world.at += timedelta(days=1, seconds=1)
    await world.add(to, "a")
    await world.send()
    headers, body = world.receiver.taken[1]
    assert not world.signed(headers, body)
    world.secret = new
    assert world.signed(headers, body)


async def test_secrets_are_sealed_at_rest(world, servers):
    to = await world.endpoint()
    async with world.database.begin(world.account) as tx:
        kept = await endpoints.secrets(tx, world.account, to.id)
    assert kept is not None
    assert base64.b64decode(world.secret.removeprefix("whsec_")) not in bytes(kept.secret)
    assert world.secret.encode() not in bytes(kept.secret)


async def test_the_wall_between_accounts_holds(world):
    to = await world.endpoint()
    await world.add(to, "a")
    async with world.database.begin(new_id()) as tx:
        assert await endpoints.read(tx, world.account, to.id) is None
        assert (await tx.execute(text("select count(*) from webhook_deliveries"))).scalar_one() == 0
    with pytest.raises(psycopg.Error):
        async with world.database.begin(new_id()) as tx:
            await deliveries.add(tx, [NewDelivery(to, "a", new_id(), "t", "{}")], world.at)


async def test_what_was_added_while_its_lane_is_closed_is_not_forgotten(world):
    to = await world.endpoint()
    other = world.another()
    for _ in range(20):
        await asyncio.gather(world.send(), world.add(to, "a"), world.send(other))
    await world.wait(2)
    assert world.in_order()
    assert await world.lanes() == 0
