"""Where the services' CPU goes, function by function: a stack of its own whose interpreters are sampled under load."""

import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relevo.stack.bench import place
from relevo.stack.bench.results import Plan
from relevo.stack.bench.session import open_session

_SHOWN = 12
_PART = 0.9


async def take(plan: Plan, *, say: Callable[[str], None], note: Callable[[str], None]) -> dict[str, Any]:
    """Each service's functions by their part of its samples, at nine tenths of the rate that it carries when flooded."""
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as name:
        folder = Path(name)
        path = os.pathsep.join(filter(None, (str(Path(__file__).parent / "sampling"), os.environ.get("PYTHONPATH"))))
        with place.own(environment={"PYTHONPATH": path, "RELEVO_BENCH_SAMPLES": name}) as own:
            async with open_session(own, plan, say=say, note=note) as session:
                carried = await session.fill()
                for item in own.status["services"]:
                    os.kill(item["pid"], signal.SIGUSR2)  # what it took to start is of no interest
                await session.driver.run("mix", carried["mix"] * _PART, plan.scenario_seconds, to_the_end=True)
        return {"rate": carried["mix"] * _PART, "services": read(folder)}


def read(folder: Path) -> dict[str, Any]:
    """What the interpreters wrote when they ended: by service, its seconds of CPU and its most expensive functions."""
    totals: Counter[str] = Counter()
    counts: dict[str, dict[str, Counter[str]]] = {}
    for file in sorted(folder.glob("*.json")):
        service = file.name.partition("-")[0]
        found = json.loads(file.read_text())
        totals[service] += found["samples"]
        for kind in ("self", "with_callees"):
            of_kind = counts.setdefault(service, {}).setdefault(kind, Counter())
            of_kind.update(dict(found[kind]))
    return {
        service: {
            "samples": total,
            **{
                kind: [(name, number / total) for name, number in counts[service][kind].most_common(_SHOWN)]
                for kind in ("self", "with_callees")
            },
        }
        for service, total in totals.most_common()
        if total
    }
