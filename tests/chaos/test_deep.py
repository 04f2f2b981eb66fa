"""The whole: 100,000 messages, 60 kills at 200 messages/s or more, every crash point of every service at least once.

It is run in parts, each with a stack of its own and a verdict of its own, so that one that was broken off can be run
again alone: a part whose report says that it was good, at this very commit, is not run again.

RELEVO_CHAOS_PARTS (5), RELEVO_CHAOS_MESSAGES (100000) and RELEVO_CHAOS_ALL_KILLS (60), both of all parts together;
RELEVO_CHAOS_REPORT: the folder of the reports.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chaos import run
from chaos.inventory import IMPOSSIBLE, plan
from chaos.run import ChaosStack, Size, chaos, commit

PARTS = int(os.environ.get("RELEVO_CHAOS_PARTS", "5"))
MESSAGES = int(os.environ.get("RELEVO_CHAOS_MESSAGES", "100000"))
KILLS = int(os.environ.get("RELEVO_CHAOS_ALL_KILLS", "60"))
LEAST_RATE = float(os.environ.get("RELEVO_CHAOS_LEAST_RATE", "200"))
LONGEST = 420.0
"""Seconds of load of one part."""


def name(part: int) -> str:
    return f"chaos-{part}-of-{PARTS}"


def earlier(part: int) -> dict[str, Any] | None:
    """The report of a part, if there is one of this commit."""
    file = Path(run.REPORTS) / f"{name(part)}.json"
    document: dict[str, Any] = json.loads(file.read_text()) if run.REPORTS and file.exists() else {}
    return document if document.get("commit") == commit() else None


def good(document: dict[str, Any]) -> bool:
    return not document["faults"] and not document["missed"] and not document["figures"]["passed against the table"]


@pytest.fixture
def part(request: pytest.FixtureRequest) -> int:
    """Asked for before `running`: nothing is started for a part that is good already."""
    number: int = request.param
    if (before := earlier(number)) and good(before):
        pytest.skip("good already at this commit")
    return number


@pytest.mark.deep
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(1, PARTS + 1), ids=lambda part: f"part{part}", indirect=True)
async def test_a_part_of_the_whole(part: int, running: ChaosStack) -> None:
    kills = len(range(part, KILLS + 1, PARTS))
    messages = MESSAGES // PARTS + 1
    size = Size(
        messages=messages,
        kills=kills,
        points=plan()[part - 1 :: PARTS],
        seconds=messages / run.RATE,
        limit=LONGEST,
        least_rate=LEAST_RATE,
        read_back=80,
        settle=240,
    )
    verdict = await chaos(running, size, name(part))
    assert verdict.faults == {}
    assert verdict.figures["crash points missed"] == []
    assert verdict.figures["passed against the table"] == []
    assert verdict.figures["kills that count"] >= kills
    assert verdict.figures["acknowledged"] >= messages


@pytest.mark.deep
def test_the_parts_make_the_whole() -> None:
    if not run.REPORTS:
        pytest.skip("no reports to add up: RELEVO_CHAOS_REPORT")
    documents = [earlier(part) for part in range(1, PARTS + 1)]
    missing = [name(part) for part, document in enumerate(documents, start=1) if document is None]
    if missing:
        pytest.skip(f"not run at this commit: {', '.join(missing)}")
    parts = [document for document in documents if document is not None]
    assert [document["faults"] for document in parts] == [{} for _ in parts]
    hits: Counter[str] = Counter()
    for document in parts:
        hits.update(document["hits"])
    kills = [kill for document in parts for kill in document["kills"]]
    sums = {
        figure: sum(document["figures"][figure] for document in parts)
        for figure in (
            "acknowledged",
            "stored",
            "lost",
            "doubled",
            "out of order",
            "above capacity",
            "events published",
        )
    }
    done: Counter[str] = Counter()
    for document in parts:
        done.update(document["figures"]["done"])
    whole = {
        "commit": commit(),
        **sums,
        "kills that count": len(kills),
        "smallest rate at a kill (messages/s)": round(min(kill["rate"] for kill in kills), 1),
        "kills by service": dict(sorted(Counter(kill["service"] for kill in kills).items())),
        "done": dict(done),
        "crash points": len(plan()),
        "hits": {" ".join(pair): hits[" ".join(pair)] for pair in plan()},
        "impossible": {" ".join(pair): reason for pair, reason in IMPOSSIBLE.items()},
    }
    text = [f"  {figure:<40} {value}" for figure, value in whole.items() if figure not in {"hits", "impossible"}]
    text += [f"  {pair:<66} {number or '✗'}" for pair, number in whole["hits"].items()]
    print("\n" + "\n".join(text))
    (Path(run.REPORTS) / "chaos.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False))
    (Path(run.REPORTS) / "chaos.txt").write_text("\n".join([*text, ""]))
    assert [pair for pair, number in whole["hits"].items() if not number] == []
    assert len(kills) >= KILLS
    assert min(kill["rate"] for kill in kills) >= LEAST_RATE
    assert sums["acknowledged"] >= MESSAGES
