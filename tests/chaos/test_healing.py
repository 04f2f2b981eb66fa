"""A stream is purged, deleted, or put back from an older copy while messages flow; nothing is lost, doubled or disordered.

What the owners' outboxes hold is published again, and what was handled is not handled again: the checker compares what
adapter and agents were acknowledged with databases, streams and the public interface.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from chaos import checker
from chaos.load import Load
from chaos.run import where
from whole_stack import WholeStack, until

RATE = float(os.environ.get("RELEVO_HEALING_RATE", "100"))
SENDERS = 60
SEED = int(os.environ.get("RELEVO_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))

Disaster = Callable[[WholeStack], Awaitable[None]]


async def request(stack: WholeStack, subject: str) -> dict[str, Any]:
    """Ask the broker as the topology user, the only one who may do such things."""
    client = await nats.connect(
        stack.nats_url,
        user_credentials=str(stack.home / "secrets" / "topology.creds"),
        inbox_prefix="_INBOX_topology",
    )
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, b"", timeout=30)).data)
    finally:
        await client.close()
    assert "error" not in answer, answer
    return answer


def heal(stack: WholeStack, *names: str) -> None:
    done = stack.relevo("topology", "heal", *names, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["name"] for one in json.loads(done.stdout)] == list(names)


async def refused(stack: WholeStack, service: str) -> bool:
    return not stack.running()[service]["ready"]


async def purge_the_stories(stack: WholeStack) -> None:
    await request(stack, "$JS.API.STREAM.PURGE.EVT_CONVERSATION")
    await until(lambda: refused(stack, "conversation"), "conversation says that its stream was emptied", 40)
    await asyncio.to_thread(heal, stack, "EVT_CONVERSATION")


async def delete_what_was_accepted(stack: WholeStack) -> None:
    await request(stack, "$JS.API.STREAM.DELETE.EVT_INGEST")
    await until(lambda: refused(stack, "ingest"), "ingest says that its stream is gone", 40)
    await asyncio.to_thread(heal, stack, "EVT_INGEST")


class Store:
    """The broker's store: copied while it stands still, and put back while it is down."""

    def __init__(self, stack: WholeStack) -> None:
        self.stack = stack
        pid = stack.pid("nats")
        assert pid is not None
        config = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[2]
        self.live = Path(config).parent / "jetstream"
        self.copied = stack.folder / "store"

    def copy(self) -> None:
        assert self.stack.signal("nats", signal.SIGSTOP)
        try:
            shutil.rmtree(self.copied, ignore_errors=True)
            shutil.copytree(self.live, self.copied)
        finally:
            self.stack.signal("nats", signal.SIGCONT)

    def put_back(self) -> None:
        """Exchange the store under the broker's feet, then kill it: its supervisor starts it on the older one."""
        assert self.stack.signal("nats", signal.SIGSTOP)
        owner = self.live.stat()
        gone = self.live.with_name("jetstream-gone")
        self.live.rename(gone)
        shutil.copytree(self.copied, self.live)
        for path in [self.live, *self.live.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)
        assert self.stack.signal("nats", signal.SIGKILL)
        shutil.rmtree(gone)


async def run(stack: WholeStack, disaster: Callable[[Load], Awaitable[None]], seconds: float = 12) -> None:
    """Load before, while and after; then quiet, and the verdict."""
    print(f"\nhealing: seed {SEED}, {RATE:g} messages/s of {SENDERS} senders")
    async with stack.account("ana", "berta", "carlos") as account:
        for person in account.people:
            await person.be("available")
        load = Load(account, SENDERS, RATE, random.Random(SEED))
        look = where(stack, account)
        enough = asyncio.Event()
        sending = asyncio.create_task(load.run(enough))
        await asyncio.sleep(seconds)
        began = time.monotonic()
        await disaster(load)
        healed = time.monotonic() - began
        await asyncio.sleep(seconds)
        enough.set()
        await sending
        async with load.listening():
            settled = await checker.quiet(look, load.ledger, 120)
        verdict = await checker.judge(look, load.ledger, read_back=20)
    known = stack.rows("assignment", "select coalesce(sum(rewinds), 0) from position")[0][0]
    verdict.figures |= {"healed in (s)": round(healed, 1), "quiet after (s)": round(settled, 1), "rewinds": known}
    print(verdict.text())
    assert verdict.faults == {}
    assert verdict.figures["acknowledged"] > RATE * seconds


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("disaster", [purge_the_stories, delete_what_was_accepted])
async def test_a_lost_stream_is_healed_while_messages_flow(stack: WholeStack, disaster: Disaster) -> None:
    await run(stack, lambda _: disaster(stack))


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_a_store_from_a_minute_before_is_healed(stack: WholeStack) -> None:
    """What adapters were acknowledged must have reached ingest when the store is lost: INBOUND has no outbox behind it."""
    store = Store(stack)

    async def put_back(load: Load) -> None:
        await asyncio.to_thread(store.copy)
        await asyncio.sleep(float(os.environ.get("RELEVO_HEALING_SECONDS", "30")))

        async def accepted() -> bool:
            statement = "select count(*) from ledger where account_id = %s"
            done = stack.rows("ingest", statement, (load.account.id,))[0][0]
            return len(load.ledger.tried) == len(load.ledger.taken) <= done

        load.rate, rate = 0.0, load.rate
        await until(accepted, "ingest has what was acknowledged", 60)
        await asyncio.to_thread(store.put_back)
        load.rate = rate

    await run(stack, put_back)
