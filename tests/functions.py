"""docs/functions.yaml: which function is kept by which operations, and shown by which tests.

Run as a program it writes docs/functions.md, the same as a table (`make docs`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "functions.yaml"
TABLE = ROOT / "docs" / "functions.md"


@dataclass(frozen=True)
class Function:
    """One function of a page. Not built yet: without operations, and said to be ``missing``."""

    page: str
    paragraph: str
    function: str
    operations: tuple[str, ...]
    tests: tuple[str, ...]
    missing: bool


def functions() -> list[Function]:
    """All of them, in the order of the pages. Raises ValueError for an entry that has other fields."""
    return [_function(entry) for entry in yaml.safe_load(SOURCE.read_text(encoding="utf-8"))]


def _function(entry: Mapping[str, Any]) -> Function:
    if unknown := set(entry) - {"page", "paragraph", "function", "operations", "tests", "state"}:
        raise ValueError(f"{entry.get('function')}: {sorted(unknown)} is no field of an entry")
    if entry.get("state", "missing") != "missing":
        raise ValueError(f"{entry['function']}: the only state is missing")
    return Function(
        entry["page"],
        entry["paragraph"],
        entry["function"],
        tuple(entry["operations"]),
        tuple(entry["tests"]),
        entry.get("state") == "missing",
    )


def owed() -> Mapping[str, set[str]]:
    """By test, what it must call or have published."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in functions():
        for test in one.tests:
            found[test] |= set(one.operations)
    return found


def table(found: Sequence[Function]) -> str:
    """The same for people to read."""
    there = [one for one in found if not one.missing]
    lines = [
        "# Functions",
        "",
        "Generated from docs/functions.yaml; do not edit. Every test that is named here was seen to call what its row names.",
        f"{len(there)} of {len(found)} functions are there.",
        "",
        "| page | paragraph | function | operations and messages | shown by |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        kept = "**missing**" if one.missing else ", ".join(f"`{name}`" for name in one.operations)
        shown = "<br>".join(f"`{test.rpartition('::')[2]}`" for test in one.tests)
        lines.append(f"| {one.page} | {one.paragraph} | {one.function} | {kept} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(functions()), encoding="utf-8")
