"""Special days out of a text that somebody has already: lines of dates, or an iCalendar file of a holiday calendar.

2026-12-25 Navidad                              closed all day
2026-12-24 09:00-12:00, 13:00-15:00 Nochebuena  open only then
2026-08-03..2026-08-16 Vacaciones               every day of these
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from relevo.contracts.identity import Hours, SpecialDay
from relevo.kernel.business_time import CalendarError, interval_of

MAX_DAYS: Final = 1_000
YEARS_AHEAD: Final = 5
"""How many years, the present one among them, a yearly event of an iCalendar file is written out for."""
MAX_NAME: Final = 120
_LONGEST_RANGE: Final = 366
_MOST_FAULTS: Final = 20

_LINE: Final = re.compile(
    r"(?P<first>\d{4}-\d{2}-\d{2})(?:\s*\.\.\s*(?P<last>\d{4}-\d{2}-\d{2}))?"
    r"(?P<hours>(?:[\s,;]+\d{2}:\d{2}\s*-\s*\d{2}:\d{2})*)(?:[\s,;]+(?P<name>.*))?"
)
_HOURS: Final = re.compile(r"(\d{2}:\d{2})\s*-\s*(\d{2}:\d{2})")


@dataclass(frozen=True, slots=True)
class Fault:
    """A line (from 1) that could not be read, and how to mend it."""

    line: int
    es: str
    en: str


class Unreadable(ValueError):
    """The text was refused whole; ``faults`` are its first faults."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{len(faults)} lines cannot be read")
        self.faults = faults


def read(text: str, *, this_year: int) -> tuple[SpecialDay, ...]:
    """The special days of a text, by date; of a date that is there twice, the later one. Raises Unreadable."""
    source = _calendar_file if "BEGIN:VCALENDAR" in text.upper() else _lines
    found: dict[str, SpecialDay] = {}
    faults: list[Fault] = []
    for item in source(text.removeprefix("\ufeff"), this_year):
        if isinstance(item, Fault):
            faults.append(item)
        else:
            found[item.date] = item
        if len(found) > MAX_DAYS:
            faults.append(_too_many())
            break
        if len(faults) == _MOST_FAULTS:
            break
    if not found and not faults:
        faults.append(Fault(1, "No hay ninguna fecha.", "There is no date in it."))
    if faults:
        raise Unreadable(tuple(faults))
    return tuple(found[day] for day in sorted(found))


def merged(present: tuple[SpecialDay, ...], more: tuple[SpecialDay, ...]) -> tuple[SpecialDay, ...]:
    """Both, by date; where both have one, the new one. Raises Unreadable when they are too many."""
    found = {day.date: day for day in (*present, *more)}
    if len(found) > MAX_DAYS:
        raise Unreadable((_too_many(),))
    return tuple(found[day] for day in sorted(found))


def _too_many() -> Fault:
    return Fault(
        1,
        f"Son más de {MAX_DAYS} días: quita los que ya han pasado.",
        f"These are more than {MAX_DAYS} days: leave out those that are over.",
    )


_Found = Iterator[SpecialDay | Fault]


def _lines(text: str, _this_year: int) -> _Found:
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield from _line(number, line)


def _line(number: int, line: str) -> _Found:
    match = _LINE.fullmatch(line)
    if match is None:
        yield Fault(
            number,
            "No se entiende: escribe «2026-12-25 Navidad» o «2026-12-24 09:00-14:00 Nochebuena».",
            "This cannot be read: write `2026-12-25 Christmas` or `2026-12-24 09:00-14:00 Christmas Eve`.",
        )
        return
    hours = tuple(Hours(opens=opens, closes=closes) for opens, closes in _HOURS.findall(match["hours"]))
    try:
        first = date.fromisoformat(match["first"])
        last = date.fromisoformat(match["last"]) if match["last"] else first
        for item in hours:
            interval_of(item.opens, item.closes, "")
    except (CalendarError, ValueError):
        yield Fault(
            number,
            "Esa fecha o esa hora no existe.",
            "There is no such date or time of day.",
        )
        return
    yield from _days(number, first, last, (match["name"] or "").strip(), hours)


def _days(number: int, first: date, last: date, name: str, hours: tuple[Hours, ...] = ()) -> _Found:
    if not timedelta() <= last - first < timedelta(days=_LONGEST_RANGE):
        yield Fault(
            number,
            "El periodo debe acabar después de empezar y durar un año como mucho.",
            "The period must end after it begins, and last a year at most.",
        )
        return
    clean = "".join(c for c in name if c.isprintable())[:MAX_NAME]
    for days in range((last - first).days + 1):
        yield SpecialDay(date=(first + timedelta(days=days)).isoformat(), name=clean, hours=hours)


@dataclass(slots=True)
class _Event:
    line: int
    start: str = ""
    end: str = ""
    summary: str = ""
    rule: str = ""


def _calendar_file(text: str, this_year: int) -> _Found:
    event: _Event | None = None
    for number, line in _unfolded(text):
        name, _, value = line.partition(":")
        name = name.partition(";")[0].upper()
        if (name, value.upper()) == ("BEGIN", "VEVENT"):
            event = _Event(number)
        elif event is None:
            continue
        elif (name, value.upper()) == ("END", "VEVENT"):
            yield from _event(event, this_year)
            event = None
        elif name == "DTSTART":
            event.start = value
        elif name == "DTEND":
            event.end = value
        elif name == "SUMMARY":
            event.summary = re.sub(r"\\([\\,;])", r"\1", value.replace("\\n", " ").replace("\\N", " "))
        elif name == "RRULE":
            event.rule = value.upper()


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first; one that begins with a blank goes on with the one before."""
    at, held = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line[:1] in (" ", "\t"):
            held += line[1:]
            continue
        if held:
            yield at, held
        at, held = number, line
    if held:
        yield at, held


def _event(event: _Event, this_year: int) -> _Found:
    try:
        first, end = _day_of(event.start), _day_of(event.end) if event.end else None
    except ValueError:
        yield Fault(
            event.line,
            "El evento no tiene una fecha que se entienda (DTSTART).",
            "The event has no date that can be read (DTSTART).",
        )
        return
    # An all-day event ends before the day that it names.
    last = max(first, end - timedelta(days=1)) if end else first
    if not event.rule:
        yield from _days(event.line, first, last, event.summary)
        return
    parts = dict(part.partition("=")[::2] for part in event.rule.split(";"))
    if parts.get("FREQ") != "YEARLY" or set(parts) - {"FREQ", "WKST"} or (first.month, first.day) == (2, 29):
        yield Fault(
            event.line,
            "Solo se entienden los eventos que se repiten cada año en la misma fecha: escribe las fechas una a una.",
            "Only events that come back every year on the same date can be read: write the dates one by one.",
        )
        return
    for year in range(max(first.year, this_year), this_year + YEARS_AHEAD):
        moved = first.replace(year=year)
        yield from _days(event.line, moved, moved + (last - first), event.summary)


def _day_of(value: str) -> date:
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})(?:T\d{6}Z?)?", value.strip())
    if match is None:
        raise ValueError(value)
    return date(int(match[1]), int(match[2]), int(match[3]))
