"""CSV as people send it: any of four delimiters, byte-order marks, Latin-1 lines, line breaks within quotes, quotes left open.

A file is read in windows of bytes, so that reading can go on at any record after whatever happened in between.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relevo.kernel.text import clean

DELIMITERS: Final = (",", ";", "\t", "|")
WINDOW: Final = 2 * 1024 * 1024
"""Bytes that are read at once; no record may be longer than half of it."""
MAX_LINE: Final = WINDOW // 2
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record begins: bytes from the start of the file, and the line as an editor counts it, from 1."""

    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record, cleaned. `broken`: a quote opens in its first line and is never closed; it has that line alone."""

    line: int
    cells: tuple[str, ...]
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """What a window of bytes held, and where the next one begins."""

    records: tuple[Record, ...]
    next: Place


def delimiter_of(first_line: str) -> str:
    """The delimiter that the header is written with."""
    unquoted = "".join(part for at, part in enumerate(first_line.split('"')) if at % 2 == 0)
    return max(DELIMITERS, key=unquoted.count)


def decoded(line: bytes) -> str:
    """A line as text: UTF-8, or Windows' Latin-1 where it is not."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def read(data: bytes, start: Place, delimiter: str, *, last: bool, limit: int) -> Window:
    """At most `limit` records of a window that begins at `start`; `last`: the file ends with it.

    Empty lines are no records. A record that the window cuts is left for the next one.
    """
    lines = data.splitlines(keepends=True) if b"\r" not in data else _split(data)
    if not last and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    records: list[Record] = []
    offset, at = start.offset, 0
    while at < len(lines) and len(records) < limit:
        taken, cells = _record(lines, at, delimiter)
        cut = cells is None and not last and sum(map(len, lines[at:])) < MAX_LINE
        if cut:
            break
        if cells is None:
            taken = 1
            cells = next(csv.reader([decoded(lines[at]).replace('"', "")], delimiter=delimiter), [])
            records.append(Record(start.line + at, _cleaned(cells), broken=True))
        elif any(cells):
            records.append(Record(start.line + at, _cleaned(cells)))
        offset += sum(map(len, lines[at : at + taken]))
        at += taken
    return Window(tuple(records), Place(offset, start.line + at))


def _split(data: bytes) -> list[bytes]:
    # As bytes.splitlines, but a lone carriage return within a line is no line break.
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _record(lines: Sequence[bytes], at: int, delimiter: str) -> tuple[int, list[str] | None]:
    """How many lines a record takes, and its cells; None where a quote is open at the end of what there is."""
    first = lines[at]
    if b'"' not in first:
        try:
            return 1, next(csv.reader([decoded(first).replace("\r", "")], delimiter=delimiter), [])
        except csv.Error:
            return 1, None
    taken = 0

    def feed() -> Iterator[str]:
        nonlocal taken
        for n in range(at, len(lines)):
            taken += 1
            yield decoded(lines[n]).replace("\r", "")
        taken = -1

    try:
        cells = next(csv.reader(feed(), delimiter=delimiter), [])
    except csv.Error:  # a field longer than the module's limit
        return 1, None
    return (taken, cells) if taken > 0 else (1, None)


def _cleaned(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean(cell) for cell in cells)


def safe(cell: str) -> str:
    """A cell that a spreadsheet takes for text and not for a formula; `unsafe` undoes it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def unsafe(cell: str) -> str:
    """What the cell was before `safe`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
