"""One account floods while services fall behind: the others do not wait, and nothing of the flood is lost, doubled or mixed up."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from relevo.chassis import Received, Tx
from relevo.chassis.bus import until
from relevo.chassis.crash import EXIT_CODE
from relevo.chassis.testing import Running, admin_of
from relevo.chassis.wire import Delivery
from relevo.contracts import ingest
from relevo.contracts.base import new_id
from relevo.contracts.grants import load_subject, service_grants
from relevo.contracts.permissions import Permission
from relevo.contracts.streams import INBOUND, PARTITIONS
from relevo.ingest import handlers
from relevo.ingest.domain.delivery import BusMessage
from relevo.ingest.fairness import Fairness
from relevo.ingest.store import deferred

World = Any
Message = Callable[..., dict[str, Any]]

SENDERS = 5
OFF = {"RELEVO_FAIRNESS_PRESSURE_SECONDS": "0"}


class House:
    """Two accounts with an inbox each; what the services behind say, a test says."""

    def __init__(self, world: World, message: Message) -> None:
        self.world = world
        self._message = message
        self.loud = world.account
        self.quiet = new_id()
        self.inboxes: dict[str, str] = {}
        self._sent: dict[str, int] = {self.loud: 0, self.quiet: 0}

    async def furnish(self) -> None:
        for account in (self.loud, self.quiet):
            manager = await self.world.key(Permission.INBOXES_MANAGE, account=account)
            self.inboxes[account] = (await self.world.inbox(manager))["id"]

    async def bring(self, account: str, many: int) -> None:
        """So many messages more of an account, by all its senders in turn."""
        first = self._sent[account]
        self._sent[account] += many
        for number in range(first, self._sent[account]):
            sent = self._message(f"m{number}", f"{number}", sender=f"s{number % SENDERS}")
            await self.world.publish(self.inboxes[account], sent, account=account)

    @asynccontextmanager
    async def pressure(self, seconds: str = "0.9") -> AsyncIterator[None]:
        """A service falls behind."""

        async def tell() -> None:
            while True:
                await self.world.run.admin.nats.publish(load_subject("conversation"), seconds.encode())
                await asyncio.sleep(0.05)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()

    async def received(self, account: str) -> list[tuple[str, int, int]]:
        """What ingest let in of an account: sender, its number there, and the number it was sent with."""
        return [
            (data.sender.id, int(headers["relevo-sequence"]), int(data.content.text))
            for headers, data in await self.world.events(ingest.MessageReceived)
            if data.inbox.account_id == account
        ]

    async def waiting(self, run: Running | None = None) -> int:
        async with (run or self.world.run).runtime.database.begin(door="lanes") as tx:
            return int((await tx.execute(text("select count(*) from deferred"))).scalar_one())

    async def dead(self) -> bool:
        async with self.world.run.runtime.database.begin() as tx:
            return bool((await tx.execute(text("select reason = 'handler' from dead_letters"))).scalar())

    async def through(self, account: str, many: int, seconds: float = 40) -> bool:
        async def there() -> bool:
            return len(await self.received(account)) >= many

        return await until(there, seconds, every=0.1)

    async def judge(self) -> None:
        """Everything that was sent is through, once, in the order of each sender."""
        for account, sent in self._sent.items():
            assert await self.through(account, sent), f"{len(await self.received(account))} of {sent}"
            got = await self.received(account)
            assert len(got) == sent
            for sender in range(SENDERS):
                mine = [(sequence, number) for who, sequence, number in got if who == f"s{sender}"]
                assert mine == list(enumerate(range(sender, sent, SENDERS), start=1))
        assert await self.waiting() == 0


@asynccontextmanager
async def house(world: World, message: Message, **environment: str) -> AsyncIterator[House]:
    async with world(**environment) as one:
        made = House(one, message)
        await made.furnish()
        yield made


async def _flooded(one: House) -> None:
    """The loud one has brought so much under pressure that a part of it waits."""
    await one.bring(one.quiet, 1)
    async with asyncio.timeout(20):
        while await one.waiting() < 20:
            await one.bring(one.loud, 20)


def test_the_others_come_in_at_once_and_the_flood_later(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            async with one.pressure():
                await _flooded(one)
                await one.bring(one.quiet, 7)
                assert await one.through(one.quiet, 8, seconds=5)
                assert await one.waiting() > 5, "the flood came in before the others"
                await one.bring(one.loud, 20)
            await one.judge()

    asyncio.run(scenario())


def test_nothing_waits_without_pressure_nor_alone(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            await one.bring(one.loud, 30)
            async with one.pressure():
                await one.bring(one.loud, 60)
                assert await one.through(one.loud, 90)
                assert not await _ever_deferred(one)
            await one.bring(one.quiet, 10)
            await one.bring(one.loud, 60)
            await one.judge()
            assert not await _ever_deferred(one)

    asyncio.run(scenario())


async def _ever_deferred(one: House) -> bool:
    async with one.world.run.runtime.database.begin() as tx:
        return bool((await tx.execute(text("select is_called from deferred_id_seq"))).scalar_one())


def test_the_http_door_asks_who_floods_to_come_later(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            keys = {
                account: await one.world.key(inbox_id=inbox, account=account) for account, inbox in one.inboxes.items()
            }

            async def post(account: str, first: int, many: int) -> httpx.Response:
                events = [message(f"h{number}", f"{number}") for number in range(first, first + many)]
                answer = await one.world.ask(
                    "POST", f"/inbound/{one.inboxes[account]}", keys[account], json={"events": events}
                )
                assert isinstance(answer, httpx.Response)
                return answer

            taken = 0

            async def refused() -> bool:
                nonlocal taken
                answer = await post(one.loud, taken, 30)
                taken += 30 if answer.status_code == 202 else 0
                if answer.status_code == 429:
                    assert answer.json()["code"] == "account_floods"
                    assert int(answer.headers["retry-after"]) >= 1
                return answer.status_code == 429

            assert (await post(one.quiet, 0, 1)).status_code == 202
            async with one.pressure():
                assert await until(refused, 30)
                assert (await post(one.quiet, 1, 3)).status_code == 202
            assert len(await one.received(one.quiet)) == 4
            assert len(await one.received(one.loud)) == taken

            async def accepted() -> bool:
                return not await refused()

            assert await until(accepted, 60, every=0.5)

    asyncio.run(scenario())


def test_what_waits_outlives_the_service(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            run = one.world.run
            async with one.pressure():
                await _flooded(one)
        left: World
        async with world(bus=run.bus, dsn=run.dsn, **OFF) as left:
            one.world.run = left.run
            await one.bring(one.loud, 15)
            await one.judge()

    asyncio.run(scenario())


def test_two_replicas_keep_the_order(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            run = one.world.run
            async with one.pressure():
                await _flooded(one)
                async with world(bus=run.bus, dsn=run.dsn) as second:

                    async def shared() -> bool:
                        return len(second.run.runtime.leases.held) == PARTITIONS // 2

                    assert await until(shared, 30)
                    await one.bring(one.loud, 20)
                    await one.bring(one.quiet, 5)
                    assert await one.through(one.quiet, 6, seconds=10)
                await one.bring(one.loud, 20)
            await one.judge()

    asyncio.run(scenario())


def test_who_has_not_looked_yet_puts_nothing_before_what_waits(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            database = one.world.run.runtime.database
            async with one.pressure():
                await _flooded(one)
                async with database.begin(one.loud) as tx:
                    p, seq, subject = (
                        await tx.execute(text("select p, seq, subject from deferred order by id desc limit 1"))
                    ).one()
                    far = seq + 10**9  # of the flood that still comes, none has this one
                    later = Received(INBOUND, p, Delivery(subject, "", b"{}", {}), far, seq, 10**18)
                    came: list[BusMessage] = []

                    async def take_in(batch: Sequence[BusMessage], _: Tx) -> None:
                        came.extend(batch)

                    await Fairness(0.4, take_in).on_inbound([later], tx)
                    assert not came
                    put = await tx.execute(
                        text("delete from deferred where p = :p and seq = :seq"), {"p": p, "seq": far}
                    )
                    assert put.rowcount == 1

    asyncio.run(scenario())


def test_whoever_takes_from_the_same_account_waits_for_the_other(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            held = range(PARTITIONS)
            async with one.pressure():
                await _flooded(one)
                database = one.world.run.runtime.database
                async with database.begin(one.loud) as first:
                    taken = await deferred.take(first, {one.loud: 5}, held)

                    async def also() -> list[deferred.Deferred]:
                        async with database.begin(one.loud) as second:
                            return await deferred.take(second, {one.loud: 5}, held)

                    other = asyncio.create_task(also())
                    done, _ = await asyncio.wait([other], timeout=0.3)
                    assert not done, "it took what comes later, before what comes first was through"
                ids = [(one.lane.p, one.seq) for one in (*taken, *await other)]
                assert len(set(ids)) == len(ids)
                for p in held:
                    mine = [seq for at, seq in ids if at == p]
                    assert mine == sorted(mine)

    asyncio.run(scenario())


def test_what_cannot_be_let_in_is_a_dead_letter_and_the_rest_comes_in(
    world: World, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in = handlers.Gate.take_in

    async def stumble(gate: handlers.Gate, batch: Sequence[BusMessage], tx: Tx) -> None:
        if any(b'"poison"' in one.body for one in batch):
            raise ValueError("a defect of ours")
        await take_in(gate, batch, tx)

    monkeypatch.setattr(handlers.Gate, "take_in", stumble)

    async def scenario() -> None:
        async with house(world, message) as one:
            async with one.pressure():
                await _flooded(one)
                await one.world.publish(one.inboxes[one.loud], message("poison", sender="s0"))
                await one.world.run.settle()
                assert not await one.dead()
            assert await until(one.dead, 20)
            await one.judge()

    asyncio.run(scenario())


@pytest.mark.parametrize("point", ["ingest.after_deferral", "ingest.after_admission"])
def test_a_death_loses_nothing(world: World, message: Message, point: str) -> None:
    async def scenario() -> None:
        async with house(world, message) as one:
            run = one.world.run
            if point == "ingest.after_admission":
                async with one.pressure():
                    await _flooded(one)
        async with admin_of(run.bus) as run.admin, one.pressure():
            process = await _start(run, point)
            async with asyncio.timeout(30):
                while process.returncode is None:
                    await one.bring(one.quiet, 1)
                    await one.bring(one.loud, 10)
            assert process.returncode == EXIT_CODE
        async with world(bus=run.bus, dsn=run.dsn, **OFF) as left:
            one.world.run = left.run
            await one.judge()

    asyncio.run(scenario())


async def _start(run: Running, crash: str) -> asyncio.subprocess.Process:
    """Ingest as a process of its own, which dies at the point."""
    grants = service_grants("ingest")
    told = {
        "RELEVO_DATABASE_URL": run.dsn,
        "RELEVO_NATS_URL": run.bus.nats_url,
        "RELEVO_NATS_CREDENTIALS": str(run.bus.user("ingest", publish=grants.publish, subscribe=grants.subscribe)),
        "RELEVO_ALLOW_UNSAFE_BROKER": "true",
        "RELEVO_HTTP_PORT": "0",
        "RELEVO_CRASH": crash,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relevo.ingest",
        env=os.environ | told,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
