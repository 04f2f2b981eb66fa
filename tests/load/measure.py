"""How long every kind of question takes: `python tests/load/measure.py DATABASE_URL ACCOUNT.json [--queries 200]`.

ACCOUNT.json is what a seeding was given. The same random questions are asked twice: first of a server that has just been
started, where `--cold` names a command that does it, then again. Nothing that is asked is kept.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from questions import Ask, Questions, account_of

from relevo.chassis.database import Database, Pool
from relevo.chassis.outbox import ensure_days
from relevo.kernel.access import Viewer

TARGET_MS = 50.0


class _Undo(Exception):
    """Ends a transaction without keeping it."""


async def ask_once(database: Database, ask: Ask, viewer: Viewer) -> float:
    """Ask, in a transaction that is undone; milliseconds."""
    began = time.perf_counter()
    try:
        async with database.begin(viewer.account_id) as tx:
            await ask(tx, viewer)
            took = time.perf_counter() - began
            raise _Undo
    except _Undo:
        return took * 1000


def spread(times: list[float]) -> tuple[float, float, float]:
    """p50, p95 and the longest."""
    ranked = sorted(times)
    return median(ranked), ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))], ranked[-1]


async def main(asked: argparse.Namespace) -> int:
    told: dict[str, Any] = json.loads(asked.account.read_text())
    open_database = lambda: Database(  # noqa: E731
        Pool(asked.database, service="conversation", size=2, lease_seconds=600), "conversation"
    )
    database = open_database()
    async with database.begin(told["account_id"]) as tx:
        await ensure_days(tx)
        account = await account_of(tx, told)
    await database.close()
    print("| question | who | cold p50 | p95 | max | warm p50 | p95 | max | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|")
    late = 0
    for who in ("administrator", "agent"):
        viewer = getattr(account, who)
        questions = Questions(account, asked.seed)
        asks = {
            name: [make() for _ in range(asked.queries)]
            for name, make in questions.kinds.items()
            if not asked.only or asked.only in name
        }
        if asked.cold:
            subprocess.run(asked.cold, shell=True, check=True)  # noqa: ASYNC221  (nobody else waits)
        database = open_database()
        # A connection that is new, and what it knows of the catalogue, are nobody's question.
        await ask_once(database, Questions(account, 2).kinds["open"](), viewer)
        passes = [
            {name: [await ask_once(database, ask, viewer) for ask in each] for name, each in asks.items()}
            for _ in range(2)
        ]
        await database.close()
        for name in asks:
            cold, warm = (spread(times[name]) for times in passes)
            missed = warm[1] > TARGET_MS
            late += missed
            shown = " | ".join(f"{ms:.1f}" for ms in (*cold, *warm))
            print(f"| {name} | {who} | {shown} | {'over' if missed else ''} |", flush=True)
    print(f"\n{late} kinds over {TARGET_MS:.0f} ms (p95, warm)")
    return 1 if late else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("account", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="other random questions for another number")
    parser.add_argument("--cold", help="a command that restarts the server and empties caches")
    parser.add_argument("--only", help="kinds whose name has this")
    sys.exit(asyncio.run(main(parser.parse_args())))
