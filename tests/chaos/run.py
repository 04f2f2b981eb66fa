"""One whole run: load, variety and havoc together, then quiet, then the verdict."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import time
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from chaos import checker
from chaos.havoc import Havoc
from chaos.inventory import Pair
from chaos.load import RULE, Load
from chaos.variety import Receivers, Variety
from whole_stack import Account, WholeStack

from relevo.stack.postgres import SUPERUSER

RATE = float(os.environ.get("RELEVO_CHAOS_RATE", "250"))
SENDERS = int(os.environ.get("RELEVO_CHAOS_SENDERS", "400"))
SEED = int(os.environ.get("RELEVO_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
REPORTS = os.environ.get("RELEVO_CHAOS_REPORT", "")
"""A folder for reports; none are written without it."""


@dataclass
class ChaosStack:
    """A stack whose crash points can be armed, and the world around it."""

    stack: WholeStack
    receivers: Receivers
    crashes: Path


@contextmanager
def chaos_stack(folder: Path, *options: str, **environment: str) -> Iterator[ChaosStack]:
    """Its mail goes to a server of ours, its webhooks may call this machine, its waits are short."""
    crashes = folder / "crashes"
    crashes.mkdir()
    receivers = Receivers()
    stack = WholeStack(folder)
    stack.environment |= {
        "RELEVO_CRASH_FOLDER": str(crashes),
        "RELEVO_SMTP_URL": receivers.start_mail(),
        "RELEVO_SMTP_TIMEOUT": "1",
        "RELEVO_MAIL_UNSEEN_SECONDS": "0",
        "RELEVO_WEBHOOKS_ALLOW_PRIVATE": "true",
        "RELEVO_WEBHOOK_TIMEOUT": "1",
        "RELEVO_WEBHOOK_BACKOFF": "0.5",
        "RELEVO_PRESENCE_LEAVE_GRACE": "1",
        "RELEVO_HEARTBEAT_SECONDS": "1",
        **environment,
    }
    try:
        stack.up(*options)
        yield ChaosStack(stack, receivers, crashes)
    finally:
        stack.down()
        receivers.stop_mail()


def where(stack: WholeStack, account: Account) -> checker.Where:
    """What the checker needs to know of the stack."""
    port = stack.environment["RELEVO_PG_PORT"]
    services = [name for name in stack.running() if (stack.home / "secrets" / f"postgres-{name}").exists()]
    return checker.Where(
        account=account.id,
        inbox=account.inbox_id,
        edge_url=stack.edge_url,
        api_token=account.api_token,
        nats_url=stack.nats_url,
        reader_creds=stack.home / "secrets" / "topology.creds",
        reader_inbox="_INBOX_topology",
        databases={
            # As the superuser: the checker counts the rows of every account.
            name: f"postgresql://{SUPERUSER}:{stack.secret('postgres-admin')}@127.0.0.1:{port}/relevo_{name}"
            for name in services
        },
        status_file=stack.home / "run" / "status.json",
    )


@dataclass
class Handled:
    """Looks every second how many messages are stored."""

    look: checker.Where
    seen: list[tuple[float, int]] = field(default_factory=list)

    async def watch(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                statement = "select count(*) from messages where account_id = %s and kind = 'incoming'"
                stored = await asyncio.to_thread(checker.rows, self.look, "conversation", statement, self.look.account)
                self.seen.append((time.monotonic(), stored[0][0]))
            await asyncio.sleep(1)

    @property
    def stored(self) -> int:
        return self.seen[-1][1] if self.seen else 0

    def mean_rate(self) -> float:
        if len(self.seen) < 2:
            return 0.0
        (began, first), (ended, last) = self.seen[0], self.seen[-1]
        return (last - first) / (ended - began)


@dataclass
class Scene:
    """An account under load; once the load has ended, what the checker found."""

    account: Account
    look: checker.Where
    load: Load
    variety: Variety
    handled: Handled
    verdict: checker.Verdict = field(default_factory=checker.Verdict)

    @property
    def ledger(self) -> checker.Ledger:
        return self.load.ledger


@asynccontextmanager
async def under_load(
    running: ChaosStack, luck: random.Random, *, rate: float = RATE, variety: bool, settle: float, read_back: int | None
) -> AsyncIterator[Scene]:
    """Load while the body runs; then quiet, and the verdict."""
    stack = running.stack
    async with (
        stack.account("ana", "berta", "carlos", "diana", "elena", "felix") as account,
        running.receivers.webhook() as hook,
        TaskGroup() as group,
    ):
        inbox = await account.admin.post("/inboxes", {"name": "Web", "channel": "api", "webhook_url": hook})
        adapter = await account.admin.post("/adapter-credentials", {"inbox_id": inbox["id"], "name": "web"})
        await account.admin.post("/rules", RULE)
        for person in account.people:
            await person.be("available")
        idle, account.people[:] = account.people[4:], account.people[:4]
        load = Load(account, SENDERS, rate, luck, triggering=True, hooked_inbox=inbox["id"])
        ledger = running.receivers.ledger = load.ledger
        others = Variety(stack, account, ledger, luck, inbox["id"], adapter["key"], idle=idle, answering=account.people)
        look = where(stack, account)
        scene = Scene(account, look, load, others, Handled(look))
        enough, enough_variety = asyncio.Event(), asyncio.Event()
        _before_others(-10)
        sending = group.create_task(load.run(enough))
        watching = group.create_task(scene.handled.watch())
        varying = group.create_task(others.run(enough_variety) if variety else asyncio.sleep(0))
        yield scene
        enough_variety.set()
        await varying
        enough.set()
        await sending
        _before_others(0)
        backlog = len(ledger.taken) - scene.handled.stored
        async with load.listening():
            settled = await checker.quiet(look, ledger, settle)
        watching.cancel()
        began = time.monotonic()
        scene.verdict = await checker.judge(look, ledger, read_back=read_back)
        for person in idle:
            await person.api.close()
        latencies = sorted(load.latencies)
        scene.verdict.figures = {
            "seed": SEED,
            "seconds of load": round(load.seconds, 1),
            "messages/s acknowledged": round(len(ledger.taken) / load.seconds, 1),
            "messages/s stored meanwhile": round(scene.handled.mean_rate(), 1),
            "still under way at the end of the load": backlog,
            "acknowledged after, p50/p99 (ms)": [
                round(1000 * latencies[int(len(latencies) * q)], 1) for q in (0.5, 0.99)
            ],
            "resolved by agents": load.resolved,
            "rounds of everything else": dict(others.rounds),
            "refused meanwhile": dict(load.refused + others.refused),
            "quiet after (s)": round(settled, 1),
            "judged in (s)": round(time.monotonic() - began, 1),
            **scene.verdict.figures,
        }
        # A server error is an honest answer; but nothing that is killed and restarted makes the code fail.
        scene.verdict.blame(
            "server errors", [what for what in (load.refused + others.refused) if ": 500 " in f": {what}"]
        )


@dataclass(frozen=True)
class Size:
    """How much; the run ends when messages, kills and points are all reached, or at its limit."""

    messages: int
    kills: int
    points: list[Pair] = field(repr=False)
    seconds: float
    """Over so many the kills are spread."""
    limit: float
    """After so many seconds the load ends whatever was reached."""
    read_back: int | None = None
    settle: float = 120
    rate: float = RATE
    least_rate: float = 0.0
    """Messages a second that must be acknowledged around a kill."""
    variety: bool = True


async def chaos(running: ChaosStack, size: Size, name: str = "chaos") -> checker.Verdict:
    """One whole run; prints what was done and what was found, and writes the report."""
    print(
        f"\n{name}: seed {SEED}, {size.messages} messages at {size.rate:g}/s of {SENDERS} senders, "
        f"{size.kills} kills, {len(size.points)} crash points"
    )
    luck = random.Random(SEED)
    async with under_load(
        running, luck, rate=size.rate, variety=size.variety, settle=size.settle, read_back=size.read_back
    ) as scene:
        havoc = Havoc(running.stack, luck, scene.ledger, running.crashes, least_rate=size.least_rate)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(size.limit):
                await asyncio.gather(
                    asyncio.sleep(size.seconds),
                    _acknowledged(scene.ledger, size.messages),
                    havoc.kills(size.kills, size.seconds),
                    havoc.sweep(size.points),
                )
                havoc.arm_the_impossible()
                await asyncio.sleep(1)
        havoc.disarm()
    verdict = scene.verdict
    await asyncio.to_thread(decide_again, running.stack, scene.account, verdict)
    verdict.figures = havoc.figures() | verdict.figures
    print("\n".join(havoc.journal))
    print(havoc.table())
    print(verdict.text())
    if REPORTS:
        report(Path(REPORTS), name, havoc, verdict)
    return verdict


def decide_again(stack: WholeStack, account: Account, verdict: checker.Verdict) -> None:
    """What all replicas decided, those that were killed too, comes out of the journal once more."""
    done = stack.relevo("simulate", f"--account={account.id}", "--since=2026-01-01T00:00:00Z", "--json")
    if not done.stdout:
        verdict.blame("decided otherwise again", [done.stderr])
        return
    check = json.loads(done.stdout)["check"]
    verdict.figures["automatic decisions made again"] = check["automatic_decisions"]
    verdict.blame("decided otherwise again", check["differences"])


def _before_others(niceness: int) -> None:
    """The customers are on no machine of ours: where we may, they do not wait for a processor."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


async def _acknowledged(ledger: checker.Ledger, messages: int) -> None:
    while len(ledger.taken) < messages:  # noqa: ASYNC110 — nobody tells
        await asyncio.sleep(0.2)


def report(folder: Path, name: str, havoc: Havoc, verdict: checker.Verdict) -> None:
    """NAME.json for programs and NAME.txt for people."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"commit": commit(), "figures": verdict.figures, "faults": verdict.faults, **havoc.record()}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False))
    (folder / f"{name}.txt").write_text("\n".join([*havoc.journal, havoc.table(), verdict.text(), ""]))


def commit() -> str:
    """What runs: the commit, with a + when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
