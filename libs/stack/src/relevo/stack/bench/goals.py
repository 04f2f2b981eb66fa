"""What was promised, beside what was measured. Pure: reads a measurement's document."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MIX_RATE = 1500.0
S1_RATE = 400.0
BACKLOG_SECONDS = 1.0
HALF_P99_SECONDS = 1.0
SINGLE_P99_SECONDS = 0.1
REST_CORES = 0.15
SERVICE_BYTES = 150 * 1024**2
_MB = 1024**2
FLOOD_RATIO = 2.0
_SERVERS = ("postgres", "nats", "edge")


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise. ``measured`` and ``wanted`` are for people."""

    name: str
    wanted: str
    measured: str
    met: bool


def goals(document: dict[str, Any]) -> list[Goal]:
    """Every promise that this measurement says something about."""
    return list(_goals(document))


def _goals(document: dict[str, Any]) -> Iterator[Goal]:
    mix, s1 = document["mix"], document["s1"]
    yield _least("mix, messages/s", MIX_RATE, mix["rate"])
    yield _least("S1, new conversations/s", S1_RATE, s1["rate"])
    for part in (mix, s1):
        name = part["scenario"]
        yield _most(f"{name}: backlog at the end, s", BACKLOG_SECONDS, part["run"]["drained"], "{:.2f}")
        yield _most(f"{name}: p99 at half the rate, s", HALF_P99_SECONDS, part["half"]["measured"]["p99"], "{:.2f}")
    rest = document["rest"]
    single = rest["singles"]["measured"]["p99"]
    yield _most("one message a second: p99, ms", SINGLE_P99_SECONDS * 1000, single * 1000, "{:.0f}")
    yield _most("at rest, % of a core", REST_CORES * 100, sum(rest["cores"].values()) * 100, "{:.1f}")
    services = [cost for cost in (*mix["costs"], *s1["costs"]) if cost["name"] not in _SERVERS]
    largest = max(services, key=lambda cost: cost["rss"])
    yield _most(
        f"memory of the largest service ({largest['name']}), MB", SERVICE_BYTES / _MB, largest["rss"] / _MB, "{:.0f}"
    )
    for point in document["sweeps"].get("accounts", ()):
        if (ratio := point.get("ratio")) is not None:
            yield _most(
                f"{point['accounts']} accounts, one floods: p99 of the others, times", FLOOD_RATIO, ratio, "{:.1f}"
            )


def _least(name: str, wanted: float, measured: float) -> Goal:
    return Goal(name, f"≥ {wanted:,.0f}", f"{measured:,.0f}", measured >= wanted)


def _most(name: str, wanted: float, measured: float, form: str) -> Goal:
    return Goal(name, f"≤ {wanted:g}", form.format(measured), measured <= wanted)
