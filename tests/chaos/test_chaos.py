"""Under load everything is killed, stopped and restarted at random; then nothing is lost, doubled or out of order.

RELEVO_CHAOS_SECONDS, _KILLS, _RATE, _SENDERS and _SEED set the sizes; the seed is printed.
"""

import asyncio
import json
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos import checker
from chaos.havoc import Havoc, points
from chaos.load import Load
from whole_stack import Account, WholeStack

RATE = float(os.environ.get("RELEVO_CHAOS_RATE", "200"))
SENDERS = int(os.environ.get("RELEVO_CHAOS_SENDERS", "400"))
SECONDS = float(os.environ.get("RELEVO_CHAOS_SECONDS", "60"))
KILLS = int(os.environ.get("RELEVO_CHAOS_KILLS", "12"))
SEED = int(os.environ.get("RELEVO_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))


def where(stack: WholeStack, account: Account) -> checker.Where:
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
            name: f"postgresql://relevo_{name}:{stack.secret(f'postgres-{name}')}@127.0.0.1:{port}/relevo_{name}"
            for name in services
        },
        status_file=stack.home / "run" / "status.json",
    )


@dataclass(frozen=True)
class Size:
    seconds: float
    kills: int
    points: list[tuple[str, str]]
    read_back: int | None = None
    settle: float = 90
    patience: float = 1.0
    """No crash point is begun after this many times ``seconds``."""


async def chaos(stack: WholeStack, size: Size) -> checker.Verdict:
    """One whole run: load and havoc together, then quiet, then the verdict, which is printed."""
    print(f"\nchaos: seed {SEED}, {size.seconds:g} s, {RATE:g} messages/s of {SENDERS} senders, {size.kills} kills")
    async with stack.account("ana", "berta", "carlos", "diana") as account:
        for person in account.people:
            await person.be("available")
        load = Load(account, SENDERS, RATE, random.Random(SEED))
        havoc = Havoc(stack, random.Random(SEED))
        look = where(stack, account)
        enough = asyncio.Event()
        sending = asyncio.create_task(load.run(enough))
        await asyncio.gather(
            asyncio.sleep(size.seconds),
            havoc.kills(size.kills, size.seconds),
            havoc.sweep(size.points, at_once=2, seconds=size.seconds * size.patience - 8),
        )
        enough.set()
        await sending
        async with load.listening():
            settled = await checker.quiet(look, load.ledger, size.settle)
        began = time.monotonic()
        verdict = await checker.judge(look, load.ledger, read_back=size.read_back)
    latencies = sorted(load.latencies)
    figures: dict[str, Any] = {
        "seed": SEED,
        "messages/s offered": round(len(load.ledger.tried) / load.seconds, 1),
        "acknowledged after, p50/p99 (ms)": [round(1000 * latencies[int(len(latencies) * q)], 1) for q in (0.5, 0.99)],
        "resolved by agents": load.resolved,
        "done": dict(havoc.done),
        "crash points reached": len(havoc.reached),
        "crash points missed": havoc.missed,
        "quiet after (s)": round(settled, 1),
        "judged in (s)": round(time.monotonic() - began, 1),
    }
    verdict.figures = figures | verdict.figures
    print("\n".join(havoc.journal))
    print(verdict.text())
    if report := os.environ.get("RELEVO_CHAOS_REPORT"):
        Path(report).write_text(json.dumps(asdict(verdict), indent=1))  # noqa: ASYNC240 — nothing else runs any more
    return verdict


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_or_out_of_order(stack: WholeStack) -> None:
    swept = points(random.Random(SEED), deep=False)
    verdict = await chaos(stack, Size(seconds=SECONDS, kills=KILLS, points=swept, read_back=40))
    assert verdict.faults == {}
    assert verdict.figures["crash points reached"] > 0


@pytest.mark.deep
@pytest.mark.timeout(0)
async def test_a_hundred_thousand_messages_and_sixty_kills(stack: WholeStack) -> None:
    swept = points(random.Random(SEED), deep=True)
    size = Size(seconds=max(SECONDS, 100_000 / RATE), kills=max(KILLS, 60), points=swept, patience=3)
    verdict = await chaos(stack, size)
    assert verdict.faults == {}
    assert verdict.figures["acknowledged"] >= 100_000
    # Some services never fill a batch, or reach a point within the seconds that an armed replica lives.
    assert verdict.figures["crash points reached"] >= 0.9 * len(swept), verdict.figures["crash points missed"]
