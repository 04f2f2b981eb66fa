"""How long each report takes over millions of facts: `python tests/load/reports.py DATABASE_URL [--rounds 3] [--explain]`.

The database is one that tests/load/facts.py filled. Each report is asked for a year, a quarter and a week, in a zone whose
days are not those of UTC; the shortest of the rounds counts, as others may use the machine. Exits 1 over a second.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parent))

import psycopg
from facts import ACCOUNT, BEGIN, END

from relevo.chassis.database import Database, Pool, Tx
from relevo.reporting import distribution, pairs, store, totals
from relevo.reporting.api import series_points
from relevo.reporting.domain.rollup import starts
from relevo.reporting.domain.week import spans
from relevo.reporting.groups import grouped
from relevo.reporting.heat import heat_cells
from relevo.reporting.totals import By

TARGET_SECONDS = 1.0
AGENT = "00000000-0000-7000-8000-0000000003eb"
ZONE = ZoneInfo("America/Bogota")
PERIODS = {
    "year": (BEGIN + timedelta(days=1, hours=5), END - timedelta(days=1)),
    "quarter": (datetime(2025, 4, 1, 5, tzinfo=UTC), datetime(2025, 7, 1, 5, tzinfo=UTC)),
    "week": (datetime(2025, 5, 5, 5, tzinfo=UTC), datetime(2025, 5, 12, 5, tzinfo=UTC)),
}

Report = Callable[[Tx, store.Selection], Awaitable[Any]]


def _series(metric: Any) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await series_points(tx, chosen, metric, starts(chosen.since, chosen.until, "day", ZONE))

    return ask


def _heatmap(metric: Any) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await heat_cells(tx, chosen, metric, spans(chosen.since, chosen.until, ZONE))

    return ask


def _conversations(metric: Any) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await store.conversations(tx, chosen, metric, before=None, limit=50)

    return ask


def _groups(by: By) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await grouped(tx, chosen, by, "es")

    return ask


def _pairs(metric: Any, by: By, across: By) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await pairs.read(tx, chosen, metric, by, across)

    return ask


def _distribution(metric: Any) -> Report:
    async def ask(tx: Tx, chosen: store.Selection) -> Any:
        return await distribution.read(tx, chosen, metric, distribution.EDGES, "channel")

    return ask


REPORTS: dict[str, tuple[Report, dict[str, Any]]] = {
    "summary": (totals.read, {}),
    "summary, business hours": (totals.read, {"business_hours": True}),
    "summary of an agent": (totals.read, {"agent_id": AGENT}),
    "summary of a channel": (totals.read, {"channel": "email"}),
    "summary of a label": (totals.read, {"labels": ("label 3",)}),
    "series of messages_in by day": (_series("messages_in"), {}),
    "series of reply_time by day": (_series("reply_time"), {"business_hours": True}),
    "series of reply_time of a label": (_series("reply_time"), {"labels": ("label 3",)}),
    "heat map of messages_in": (_heatmap("messages_in"), {}),
    "heat map of reply_time of a label": (_heatmap("reply_time"), {"labels": ("label 3",)}),
    "conversations behind messages_in": (_conversations("messages_in"), {}),
    "conversations behind resolution of an agent": (_conversations("resolution"), {"agent_id": AGENT}),
    **{f"groups by {by}": (_groups(by), {}) for by in get_args(By)},
    "agents of a label": (_groups("agent"), {"labels": ("label 3",)}),
    "messages_in by agent across inboxes": (_pairs("messages_in", "agent", "inbox"), {}),
    "messages_in by label across inboxes": (_pairs("messages_in", "label", "inbox"), {}),
    "first_response in spans, by channel": (_distribution("first_response"), {}),
    "labels of an agent": (_groups("label"), {"agent_id": AGENT}),
}


async def main(asked: argparse.Namespace) -> int:
    database = Database(Pool(asked.database, service="reporting", size=1, lease_seconds=600), "reporting")
    late = 0
    print("| report | " + " | ".join(PERIODS) + " |\n|---|" + "---:|" * len(PERIODS))
    for name, (ask, more) in REPORTS.items():
        if asked.only and asked.only not in name:
            continue
        shown = []
        for since, until in PERIODS.values():
            chosen = store.Selection(ACCOUNT, since, until, store.Reach(everything=True))
            times = []
            for _ in range(asked.rounds):
                began = time.perf_counter()
                # What a service gives up on is as slow as that.
                with suppress(psycopg.errors.QueryCanceled):
                    async with database.begin(ACCOUNT) as tx:
                        await ask(tx, replace(chosen, **more))
                times.append(time.perf_counter() - began)
            late += min(times) > TARGET_SECONDS
            shown.append(f"{min(times):.2f} s")
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
    await database.close()
    print(f"\n{late} over {TARGET_SECONDS:.0f} s")
    return 1 if late else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    sys.exit(asyncio.run(main(parser.parse_args())))
