"""What operators are told in one line: what a service misses at /readyz, and streams that are filling."""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from relevo.stack import room

FILLING: Final = 0.8
STALE_SECONDS: Final = 15.0
"""A status is written every two seconds; while nothing answers, every five."""
_WINDOW_SECONDS: Final = 3600.0
_APART_SECONDS: Final = 30.0
_LONGEST: Final = timedelta(days=365)
_ERROR: Final = re.compile(r" \(\w+\)$")
"""The kind of an error at the end of a reason: who asked at the moment of a fall has another than who asked later."""


def told(missing: Mapping[str, str]) -> str:
    """What is missing, by name. Partitions of one stream want the same thing: they are counted, and the first one speaks."""
    streams: dict[str, list[str]] = {}
    for name in missing:
        streams.setdefault(name.partition("/")[0], []).append(name)
    return "; ".join(
        f"{first}{f' and {len(others)} more' if others else ''}: {missing[first]}"
        for first, *others in streams.values()
    )


def unready(servers: Sequence[Mapping[str, Any]], services: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each thing that is missing: servers first, as services mostly want what they lack; who wants the same shares one."""
    lines = [_server(one) for one in servers if not one["ready"]]
    wanting: dict[str, list[str]] = {}
    for one in services:
        if one["missing"]:
            wanting.setdefault(_ERROR.sub("", one["missing"]), []).append(one["name"])
    for names in wanting.values():
        missing = next(one["missing"] for one in services if one["name"] == names[0])
        *others, last = names
        who = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        lines.append(f"{who} not ready: {missing}")
    return lines


def _server(one: Mapping[str, Any]) -> str:
    name = one["name"]
    if not one["missing"]:
        return f"{name} is not ready: it is started again by itself; see `relevo logs {name}`"
    return (
        f"{name} runs (process {one['pid']}) and does not answer ({one['missing']}): what needs it waits, and goes on by itself; "
        f"if it stays so, end that process, and it is started again; see `relevo logs {name}`"
    )


def outdated(written: str, now: datetime) -> str | None:
    """What the operator is told of a status that was written too long ago; None while it is fresh."""
    age = (now - datetime.fromisoformat(written)).total_seconds()
    if age < STALE_SECONDS:
        return None
    return f"this is how it was {age:.0f} s ago: `relevo up` itself is held up, by a server that it starts or by the machine"


@dataclass(frozen=True, slots=True)
class StreamFill:
    """What a stream holds of what it may hold, in bytes, and by how much it grows (None: nobody knows)."""

    name: str
    held: int
    limit: int
    per_second: float | None = None

    @property
    def ratio(self) -> float:
        """From 0 to 1; 0 of a stream without a limit."""
        return self.held / self.limit if self.limit > 0 else 0.0

    def full_at(self, now: datetime) -> datetime | None:
        """When it is full if it goes on like this; None when it does not grow, or not within a year."""
        if self.per_second is None or self.per_second <= 0 or self.held >= self.limit:
            return None
        seconds = (self.limit - self.held) / self.per_second
        return now + timedelta(seconds=seconds) if seconds < _LONGEST.total_seconds() else None

    def line(self, now: datetime) -> str | None:
        """What the operator is told; None while there is room."""
        if self.ratio < FILLING:
            return None
        held = f"{room.shown(self.held)} of {room.shown(self.limit)}"
        more = f"relevo topology limits {self.name}={room.shown(2 * self.limit).replace(' ', '')}"
        if self.ratio >= 0.99:
            return (
                f"{self.name} is full ({held}): what its services have to say waits in their databases, in order, and nothing "
                f"is lost; it goes out by itself after `{more}`"
            )
        at = self.full_at(now)
        when = f", full by {at:%Y-%m-%d %H:%M} UTC at the present rate" if at else ""
        return f"{self.name} is {100 * self.ratio:.0f} % full ({held}){when}: `{more}`, or let it keep less with `{self.name}=/3d`"

    def describe(self, now: datetime) -> dict[str, Any]:
        """For machines."""
        at = self.full_at(now)
        return {
            "name": self.name,
            "held": self.held,
            "limit": self.limit,
            "per_second": self.per_second,
            "full_at": at.isoformat() if at else None,
        }


class Growth:
    """Remembers what the streams held during the last hour."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def add(self, seconds: float, fills: Sequence[StreamFill]) -> list[StreamFill]:
        """Take a look at a time of a monotonic clock; answers the same with the rate at which they grew since the first."""
        while self._samples and seconds - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0] if self._samples else (seconds, {})
        if not self._samples or seconds - self._samples[-1][0] >= _APART_SECONDS:
            self._samples.append((seconds, {fill.name: fill.held for fill in fills}))
        if seconds - since < _APART_SECONDS:
            return list(fills)
        return [
            StreamFill(fill.name, fill.held, fill.limit, (fill.held - before[fill.name]) / (seconds - since))
            if fill.name in before
            else fill
            for fill in fills
        ]
