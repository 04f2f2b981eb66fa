"""Agents come and go beside a long queue, on a whole stack with replicas of assignment; then the judge is asked.

Everything goes through the public interfaces: messages through an adapter, statuses and resolving over HTTP, each agent
with a session of their own. Who was given what is followed on the bus.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import nats
from judging import commits
from judging.door import Door
from judging.judge import Verdict, judge, lines, percentile, read
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from websockets.asyncio.client import ClientConnection, connect
from whole_stack import Account, WholeStack, message, until

from relevo.stack.seed import role_id

SEED = int(os.environ.get("RELEVO_JUDGED_SEED") or random.SystemRandom().randrange(1_000_000))
EVENTS = os.environ.get("RELEVO_JUDGED_EVENTS", "")
"""A file for the events that were judged; none is written without it."""
HIRED_AT_ONCE = 4
BY_SOCKET = 20
"""One agent in so many comes by opening a socket and goes by signing out there; the others say it over HTTP."""
SENT_AT_ONCE = 200
KNOWN_WITHIN = 60.0
COMMITTED = "from commit to commit (ms), p50/p99/max of"
"""What the change in presence took to become an assignment, by the database's clock."""
_NOT_YET = {401, 403, 404, 409, 422, 503}


@dataclass(frozen=True)
class Size:
    """How much. ``flips``: changes of status a second, of all agents; every agent takes one conversation at a time."""

    agents: int = 1000
    conversations: int = 10_000
    flips: float = 50.0
    seconds: float = 300.0
    kill_every: float = 30.0
    """After so many seconds a replica of assignment is killed; 0: none."""


SHORT = Size(agents=30, conversations=300, flips=15, seconds=20, kill_every=8)


@dataclass
class Worker:
    """An agent who is signed in."""

    id: str
    token: str = field(repr=False)
    by_socket: bool
    available: bool = False
    socket: ClientConnection | None = None
    listening: asyncio.Task[None] | None = None


@dataclass
class Followed:
    """What assignment publishes, as it comes."""

    holds: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    holder: dict[str, str | None] = field(default_factory=dict)

    def take(self, told: Mapping[str, Any]) -> None:
        one, agent = told["conversation_id"], told.get("assignee_id")
        if (before := self.holder.get(one)) is not None:
            self.holds[before].discard(one)
        self.holder[one] = agent
        if agent is not None:
            self.holds[agent].add(one)

    async def follow(self, client: Client, account: str) -> None:
        config = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "inactive_threshold": 60 * 10**9}
        asked = json.dumps({"stream_name": "EVT_ASSIGNMENT", "config": config}).encode()
        made = json.loads((await client.request("$JS.API.CONSUMER.CREATE.EVT_ASSIGNMENT", asked, timeout=30)).data)
        inbox = client.new_inbox()
        replies = await client.subscribe(inbox)
        ask = json.dumps({"batch": 200, "expires": 10**9}).encode()
        while True:
            await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.EVT_ASSIGNMENT.{made['name']}", ask, reply=inbox)
            with contextlib.suppress(NatsTimeoutError):
                for _ in range(200):
                    got = await replies.next_msg(timeout=1.2)
                    if not got.reply:
                        break
                    # Not everything in a stream is an event.
                    if f".{account}." in got.subject and "conversation_" in got.subject.rpartition(".")[2]:
                        self.take(json.loads(got.data))


@dataclass
class Load:
    """The agents of one account, who come, take one, leave and resolve it."""

    stack: WholeStack
    account: Account
    door: Door
    followed: Followed
    luck: random.Random
    workers: list[Worker] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    flipped: int = 0
    by_socket: int = 0
    resolved: int = 0
    killed: int = 0

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        """Until it is known everywhere whom and what it is about."""
        end = time.monotonic() + KNOWN_WITHIN
        while True:
            answer = await self.door.ask(method, f"/api/v1{path}", token, body)
            if answer.is_success:
                return answer.json()
            told = f"{answer.status} {answer.body[:300].decode(errors='replace')}"
            self.refused[f"{method} {told.partition(' ')[0]}"] += 1
            if answer.status not in _NOT_YET or time.monotonic() > end:
                raise RuntimeError(f"{method} {path}: {told}")
            await asyncio.sleep(0.1)

    async def hire(self, number: int) -> None:
        role, places = await role_id(self.account.admin, "agent"), asyncio.Semaphore(HIRED_AT_ONCE)

        async def one(n: int) -> None:
            mail, password = f"a{n}-{secrets.token_hex(4)}@relevo.example", secrets.token_urlsafe(18)
            who = {"name": f"A{n}", "email": mail, "role_id": role, "inbox_ids": None, "initial_password": password}
            async with places:
                made = await self.ask("POST", "/agents", self.account.api_token, who)
                session = await self.ask("POST", "/sessions", "", {"email": mail, "password": password})
                worker = Worker(made["id"], session["access_token"], by_socket=n % BY_SOCKET == 0)
                if not worker.by_socket:
                    await self.ask("PUT", "/presence/me", worker.token, {"state": "away"})
            self.workers.append(worker)

        await asyncio.gather(*map(one, range(number)))

    async def fill(self, number: int) -> None:
        """So many conversations wait."""
        places = asyncio.Semaphore(SENT_AT_ONCE)
        async with self.account.adapter(connect_timeout=30) as adapter:

            async def one(n: int) -> None:
                async with places:
                    await adapter.publish(message(f"m{n}", f"sender{n}"))

            await asyncio.gather(*map(one, range(number)))

        async def all_wait() -> bool:
            return len(self.followed.holder) >= number

        await until(all_wait, f"{number} conversations in the queue", 600)

    async def flip(self, rate: float, seconds: float) -> None:
        """Open loop: a slow system does not slow the agents."""
        began = time.monotonic()
        idle = list(self.workers)
        started = 0
        async with asyncio.TaskGroup() as group:

            async def one(worker: Worker) -> None:
                await self._flip(worker)
                idle.append(worker)

            while (passed := time.monotonic() - began) < seconds:
                while started < passed * rate and idle:
                    group.create_task(one(idle.pop(self.luck.randrange(len(idle)))))
                    started += 1
                await asyncio.sleep(0.005)

    async def _flip(self, worker: Worker) -> None:
        """Come; or leave, and resolve what one has."""
        if worker.by_socket:
            await self._by_socket(worker)
        else:
            state = "away" if worker.available else "available"
            await self.ask("PUT", "/presence/me", worker.token, {"state": state})
        worker.available = not worker.available
        self.flipped += 1
        if not worker.available:
            for one in list(self.followed.holds[worker.id]):
                await self.ask("POST", f"/conversations/{one}/resolve", worker.token)
                self.followed.holds[worker.id].discard(one)
                self.resolved += 1

    async def _by_socket(self, worker: Worker) -> None:
        if worker.socket is not None and worker.listening is not None:
            await worker.socket.send('{"type": "sign_out"}')
            await worker.listening
            worker.socket = worker.listening = None
        else:
            ticket = (await self.ask("POST", "/socket/tickets", worker.token))["ticket"]
            address = self.stack.edge_url.replace("http", "ws", 1) + f"/api/v1/socket?ticket={ticket}"
            worker.socket = await connect(address, compression=None)
            worker.listening = asyncio.create_task(_listen(worker.socket))
        self.by_socket += 1

    async def kill(self, every: float) -> None:
        """One replica of assignment after the other; each is started again."""
        if not every:
            return
        for n in range(1_000_000):
            await asyncio.sleep(every)
            names = sorted(name for name in self.stack.running() if name.split("-")[0] == "assignment")
            self.killed += self.stack.signal(names[n % len(names)], signal.SIGKILL)


async def _listen(socket: ClientConnection) -> None:
    """As a client does: everything that the agent may see comes this way, until it ends."""
    async for _ in socket:
        pass


@asynccontextmanager
async def _bus(stack: WholeStack) -> AsyncIterator[Client]:
    credentials = str(stack.home / "secrets" / "topology.creds")
    client = await nats.connect(stack.nats_url, user_credentials=credentials, inbox_prefix="_INBOX_topology")
    try:
        yield client
    finally:
        await client.close()


async def judged(stack: WholeStack, size: Size, log: Any = print) -> Verdict:
    """The load, and what the judge says of it."""
    log(f"\nseed {SEED}, {size}")
    async with (
        stack.account() as account,
        _bus(stack) as client,
        Door(stack.edge_url) as door,
    ):
        followed = Followed()
        following = asyncio.create_task(followed.follow(client, account.id))
        load = Load(stack, account, door, followed, random.Random(SEED))
        try:
            policy = {"strategy": "round_robin", "default_capacity": 1, "busy_as_fallback": False}
            await load.ask("PUT", "/routing/policy", account.api_token, policy)
            began = time.monotonic()
            await load.hire(size.agents)
            log(f"{size.agents} agents after {time.monotonic() - began:.0f} s")
            await load.fill(size.conversations)
            log(f"{size.conversations} conversations wait after {time.monotonic() - began:.0f} s")
            before = await steps(stack)
            killing = asyncio.create_task(load.kill(size.kill_every))
            start = datetime.now(UTC)
            await load.flip(size.flips, size.seconds)
            killing.cancel()
            # What came last has its second, too.
            await asyncio.sleep(3)
            ended = datetime.now(UTC)
            after = await steps(stack)
        finally:
            following.cancel()
            await asyncio.gather(*(one.socket.close() for one in load.workers if one.socket is not None))
        events = await read(client, account.id)
        if EVENTS:
            await asyncio.to_thread(Path(EVENTS).write_text, "\n".join(lines(events)))
        began = time.monotonic()
        verdict, found = judge(events, capacity=1, until=ended)
        told = [(one.told - one.since).total_seconds() for one in found.brought]
        matched = await asyncio.to_thread(commits.between, stack, found.brought)
        verdict.figures |= {
            "events": len(events),
            "seconds of load": round((ended - start).total_seconds() - 3, 1),
            "changes of status": load.flipped,
            "of these by opening and leaving a socket": load.by_socket,
            "resolved": load.resolved,
            "replicas killed": load.killed,
            "asked again, by answer": dict(load.refused),
            COMMITTED: _spread(matched),
            "from the request to the broker's having it (ms)": _spread(told),
            "matching alone, share within 20 ms": _within("matching", before, after),
            "runs of the matcher with their commits, share within 20 ms": _within("run", before, after),
            "judged in (s)": round(time.monotonic() - began, 1),
        }
        return verdict


def _spread(seconds: list[float]) -> list[float]:
    return [*(round(1000 * percentile(seconds, share), 1) for share in (0.5, 0.99, 1)), len(seconds)]


async def steps(stack: WholeStack) -> dict[int | None, Counter[str]]:
    """The matchers' histograms by process: by name and upper bound."""
    found: dict[int | None, Counter[str]] = {}
    async with httpx.AsyncClient(timeout=10) as client:
        for name, item in stack.running().items():
            if name.split("-")[0] != "assignment" or not item.get("port"):
                continue
            with contextlib.suppress(httpx.HTTPError):
                text = (await client.get(f"http://127.0.0.1:{item['port']}/metrics")).text
                found[item["pid"]] = Counter(
                    {
                        f"{name} {bound}": int(float(value))
                        for name, bound, value in re.findall(
                            r'relevo_assignment_(run|matching)_seconds_bucket\{le="([^"]+)"\} (\S+)', text
                        )
                    }
                )
    return found


def _within(name: str, before: dict[int | None, Counter[str]], after: dict[int | None, Counter[str]]) -> str:
    """Of the processes that live: what the killed ones did is gone with them."""
    runs, short = (
        sum(one[f"{name} {bound}"] - before.get(pid, Counter())[f"{name} {bound}"] for pid, one in after.items())
        for bound in ("+Inf", "0.02")
    )
    return f"{100 * short / runs:.1f} % of {runs}" if runs else "none"
