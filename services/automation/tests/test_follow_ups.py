"""Ten thousand conversations are followed up although the service dies amid it: each once and in time, none that was answered.

The service is a process of its own here, which is killed and not drained: with timers due, amid a batch of them, and between
that batch's commit and what follows. What is right is counted from what the broker stored, and when it did.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psycopg
import pytest

from relevo.automation.app import build
from relevo.chassis.bus import until
from relevo.chassis.crash import EXIT_CODE
from relevo.chassis.testing import Admin, admin_of, running
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import service_grants
from relevo.stack.process import free_port

from .samples import ACCOUNT, contains, said
from .test_service import _make, _manager

COUNT = int(os.environ.get("RELEVO_FOLLOW_UPS", "10000"))
WAIT = timedelta(minutes=30)
LEAD = timedelta(seconds=10 + COUNT / 200)
"""From the first customer's word to the first follow-up: the words are dated back by what is missing to WAIT."""
SPREAD = timedelta(seconds=12 + COUNT / 250)
"""From the first follow-up to the last. The service stands still in the second third."""


@dataclass(eq=False)
class Customer:
    """One conversation: when it is to be followed up, when somebody answered it, and when the broker stored follow-ups."""

    due: datetime
    talk: str = field(default_factory=new_id)
    answered: datetime | None = None
    followed: list[datetime] = field(default_factory=list)

    @property
    def fault(self) -> str | None:
        """What is wrong with it. An answer that came when it was due already may count, and may not."""
        if any(at < self.due for at in self.followed):
            return "early"
        if len(self.followed) > 1:
            return "twice"
        if self.answered is not None and self.answered < self.due:
            return "although answered" if self.followed else None
        return None if self.followed or self.answered is not None else "never"


class Automation:
    """The service's process, started again and again on the same database and bus."""

    def __init__(self, servers: Any, bus: Any, dsn: str, log: Path) -> None:
        grants = service_grants("automation")
        self._port = free_port()
        self._log = log
        self._environment = {
            **os.environ,
            "RELEVO_DATABASE_URL": servers.serving(dsn),
            "RELEVO_NATS_URL": bus.nats_url,
            "RELEVO_NATS_CREDENTIALS": str(bus.user("automation", publish=grants.publish, subscribe=grants.subscribe)),
            "RELEVO_ALLOW_UNSAFE_BROKER": "true",
            "RELEVO_HTTP_PORT": str(self._port),
            "RELEVO_PARTITION_LEASE_SECONDS": "1",
        }

    @asynccontextmanager
    async def process(self, **environment: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """One, killed at the end if it has not died by itself."""
        process = self._start(environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "relevo.automation", "serve"],
                env=self._environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def ready(self) -> datetime:
        """When it is."""
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                try:
                    return (await client.get(f"http://127.0.0.1:{self._port}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            assert await until(answers, 60), self._log.read_text()[-3000:]
        return now()

    async def dies_at(self, point: str) -> None:
        """Start it, and have it die at this point, amid what it catches up with."""
        async with self.process(RELEVO_CRASH=f"{point}:{1 + COUNT // 2000}") as process:
            assert await until(lambda: _same(process.poll() is not None), 60)
            assert process.returncode == EXIT_CODE, self._log.read_text()[-3000:]


async def _same(given: bool) -> bool:
    return given


async def _each(work: Callable[[Customer], Awaitable[None]], customers: Iterable[Customer]) -> None:
    """A hundred at once."""
    waiting = iter(list(customers))

    async def one_by_one() -> None:
        for customer in waiting:
            await work(customer)

    await asyncio.gather(*(one_by_one() for _ in range(100)))


async def _stored(admin: Admin, stream: str, command: str) -> dict[str, list[datetime]]:
    """When the broker stored messages of this kind, by conversation."""
    found: dict[str, list[datetime]] = defaultdict(list)
    js = admin.nats.jetstream()
    if (await js.stream_info(stream)).state.messages:
        subscription = await js.subscribe("", stream=stream, ordered_consumer=True)
        while True:
            message = await subscription.next_msg(timeout=30)
            if message.subject.endswith(command):
                found[(message.headers or {})["ce-subject"]].append(message.metadata.timestamp)
            if not message.metadata.num_pending:
                break
        await subscription.unsubscribe()
    return found


def _count(dsn: str, statement: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute(statement).fetchall())


OUTCOMES = "select outcome, count(*) from executions group by outcome"
LEFT = (
    "select 'waits', count(*) from rule_waits union all select 'timers', count(*) from timers where kind = 'rule_wait'"
)


@pytest.mark.deep
@pytest.mark.timeout(900)
async def test_each_is_followed_up_once_and_in_time_although_the_service_dies(servers, tmp_path, capsys) -> None:
    async with running(build, servers) as first:
        headers = await _manager(first)
        rule = {
            "conditions": contains("message.text", "hola"),
            "actions": [
                {"type": "wait", "minutes": WAIT // timedelta(minutes=1), "unless": "agent_answers"},
                {"type": "send_message", "text": "¿Sigue ahí?"},
            ],
        }
        await _make(first, headers, **rule)
        bus, dsn, looked = first.bus, servers.serving(first.dsn), first.dsn
    automation = Automation(servers, bus, dsn, tmp_path / "automation.log")
    began = now()
    starts, ends = began + LEAD, began + LEAD + SPREAD
    stops, again = starts + SPREAD / 3, starts + SPREAD * 2 / 3
    chance = random.Random(11)
    customers = [Customer(starts + SPREAD * n / COUNT) for n in range(COUNT)]
    chance.shuffle(customers)
    # Of every four two are answered by somebody; one of them while nothing runs, if it is to be followed up then or later.
    before, amid = customers[0::4], [customer for customer in customers[1::4] if customer.due > stops]

    async with admin_of(bus) as admin:

        async def write(customer: Customer) -> None:
            data = said("hola", id=customer.talk)
            time = customer.due - WAIT
            await admin.publish(data, account=ACCOUNT, entity=customer.talk, actor="contact:c", time=time)

        async def answer(customer: Customer) -> None:
            data = said("Dígame", kind="outgoing", id=customer.talk)
            await admin.publish(data, account=ACCOUNT, entity=customer.talk, actor="agent:a")

        async def kept() -> bool:
            return sum(_count(looked, OUTCOMES).values()) == COUNT

        async def over(moment: datetime) -> None:
            assert await until(lambda: _same(now() > moment), 600)

        async with automation.process():
            await automation.ready()
            await _each(write, customers)
            assert await until(kept, 120)
            took = now() - began
            assert now() < starts, "this machine is too slow for so many: RELEVO_FOLLOW_UPS says how many"
            await _each(answer, before)
            await over(stops)
        stopped = now()
        await _each(answer, amid)
        await over(again)
        await automation.dies_at("timers.before_commit")
        await automation.dies_at("timers.after_commit")
        async with automation.process():
            back = await automation.ready()
            await over(ends)

            async def done() -> bool:
                return _count(looked, OUTCOMES).get("waiting", 0) == 0 and sum(_count(looked, LEFT).values()) == 0

            await until(done, 60)
            # What would ring again has the time to.
            await over(now() + timedelta(seconds=8))
            outcomes, left = _count(looked, OUTCOMES), _count(looked, LEFT)
        followed = await _stored(admin, "CMD_CONVERSATION", "send_message")
        answers = await _answers(admin)
    for customer in customers:
        customer.followed = followed.get(customer.talk, [])
        customer.answered = answers.get(customer.talk)

    faults = defaultdict(int)
    for customer in customers:
        faults[customer.fault] += 1
    faults.pop(None, None)
    # What was due in the stop's last moments before it may have been under way.
    halted = [one for one in customers if stopped - timedelta(seconds=2) < one.due < back]
    stood = set(halted)
    in_time = [(one.followed[0] - one.due).total_seconds() for one in customers if one.followed and one not in stood]
    caught_up = [(one.followed[0] - back).total_seconds() for one in halted if one.followed]
    early = sum(one.answered is not None and one.answered < one.due for one in customers)
    with capsys.disabled():
        print(  # noqa: T201  (what it is for)
            f"\n{COUNT} follow-ups, kept in {took.total_seconds():.1f} s; {early} answered in time; stopped for "
            f"{(back - stopped).total_seconds():.1f} s with {len(halted)} due in it; "
            f"{outcomes}; late in seconds: {_told(in_time)}; after the stop, since it was back: {_told(caught_up)}"
        )
    assert dict(faults) == {}
    assert left == {"waits": 0, "timers": 0}
    assert outcomes == {"ordered": len(followed), "moot": COUNT - len(followed)}
    assert early > COUNT / 4, "some were answered while nothing ran"
    assert len(in_time) > COUNT / 8
    assert len(caught_up) > COUNT / 8
    assert quantiles(in_time, n=100)[98] < 5
    assert max(caught_up) < 30


def _told(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return f"p50 {cuts[49]:.2f}, p99 {cuts[98]:.2f}, max {max(seconds):.2f} of {len(seconds)}"


async def _answers(admin: Admin) -> dict[str, datetime]:
    """When answers were stored, by conversation: each has one word of the customer, then perhaps one of the team."""
    stored = await _stored(admin, "EVT_CONVERSATION", "message_created")
    return {talk: times[1] for talk, times in stored.items() if len(times) > 1}
