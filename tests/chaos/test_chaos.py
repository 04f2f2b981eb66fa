"""Under load everything is killed, stopped and restarted at random; then nothing is lost, doubled or out of order.

RELEVO_CHAOS_SECONDS, _KILLS, _RATE, _SENDERS and _SEED set the sizes; the seed is printed.
"""

import asyncio
import json
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from chaos import checker
from chaos.havoc import Havoc, points
from chaos.load import Load
from whole_stack import Account, WholeStack

RATE = float(os.environ.get("RELEVO_CHAOS_RATE", "200"))
SENDERS = int(os.environ.get("RELEVO_CHAOS_SENDERS", "400"))
SEED = int(os.environ.get("RELEVO_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))


def where(stack: WholeStack, account: Account, token: str) -> checker.Where:
    port = stack.environment["RELEVO_PG_PORT"]
    services = [name for name in stack.running() if (stack.home / "secrets" / f"postgres-{name}").exists()]
    return checker.Where(
        account=account.id,
        inbox=account.inbox_id,
        edge_url=stack.edge_url,
        api_token=token,
        nats_url=stack.nats_url,
        reader_creds=stack.home / "secrets" / "topology.creds",
        reader_inbox="_INBOX_topology",
        databases={
            name: f"postgresql://relevo_{name}:{stack.secret(f'postgres-{name}')}@127.0.0.1:{port}/relevo_{name}"
            for name in services
        },
        status_file=stack.home / "run" / "status.json",
    )


async def chaos(stack: WholeStack, *, seconds: float, kills: int, deep: bool, read_back: int | None) -> checker.Verdict:
    """One whole run: load and havoc together, then quiet, then the verdict, which is printed."""
    luck = random.Random(SEED)
    print(f"\nchaos: seed {SEED}, {seconds:g} s at {RATE:g} messages/s from {SENDERS} senders, {kills} kills")
    async with stack.account("ana", "berta", "carlos", "diana") as account:
        for person in account.people:
            await person.be("available")
        load = Load(account, SENDERS, RATE, luck)
        havoc = Havoc(stack, random.Random(SEED))
        look = where(stack, account, account.api_token)
        await asyncio.gather(load.run(seconds), havoc.kills(kills, seconds), havoc.sweep(points(deep=deep), at_once=2))
        async with load.listening():
            settled = await checker.quiet(look, load.ledger, 90)
        began = time.monotonic()
        verdict = await checker.judge(look, load.ledger, read_back=read_back)
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
    return verdict


@pytest.mark.timeout(300)
async def test_nothing_is_lost_doubled_or_out_of_order(stack: WholeStack, tmp_path: Path) -> None:
    verdict = await chaos(
        stack,
        seconds=float(os.environ.get("RELEVO_CHAOS_SECONDS", "60")),
        kills=int(os.environ.get("RELEVO_CHAOS_KILLS", "12")),
        deep=False,
        read_back=40,
    )
    report = Path(os.environ.get("RELEVO_CHAOS_REPORT") or tmp_path / "chaos.json")
    report.write_text(json.dumps(asdict(verdict), indent=1))  # noqa: ASYNC240 — nothing else runs any more
    assert verdict.faults == {}
