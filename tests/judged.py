"""docs/judged.yaml: what handlers ask beyond the permission that their operation names, and the tests that show it.

Run as a program it writes docs/judged.md, the same as a table (`make docs`).
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "judged.yaml"
TABLE = ROOT / "docs" / "judged.md"

_CALLS = {"can", "may", "_allow"}
_COMPARES = re.compile(
    r"!= who\.(actor|id)\b|who\.inbox_id != |who\.kind != 'agent'|who\.session_id is None|who\.viewer\.agent_id is None"
)


@dataclass(frozen=True)
class Judged:
    """One question that is asked within: where in the code, for which operations, of whom, and what they get else."""

    asks: str
    refused: str
    where: tuple[str, ...]
    operations: tuple[str, ...]
    tests: tuple[str, ...]


def judged() -> list[Judged]:
    """All of them. Raises TypeError for an entry that has other fields."""
    entries = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    lists = ("where", "operations", "tests")
    return [Judged(**{**entry, **{name: tuple(entry[name]) for name in lists}}) for entry in entries]


def owed() -> Mapping[str, set[str]]:
    """By test, what it must call."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in judged():
        for test in one.tests:
            found[test] |= set(one.operations) if len(one.tests) == 1 else set()
    return found


def asked() -> Iterator[str]:
    """Every function of a service that asks who somebody is or what they hold, as ``service.module:function``."""
    for file in sorted(ROOT.glob("services/*/src/relevo/**/*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts[4:])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_asks, ast.walk(node))):
                yield f"{module}:{node.name}"


def _asks(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return bool(_COMPARES.search(ast.unparse(node)))
    if not isinstance(node, ast.Call):
        return False
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _CALLS
        case ast.Call(func=ast.Name(id="require")):
            return True
    return False


def table(found: Sequence[Judged]) -> str:
    """The same for people to read."""
    lines = [
        "# What is judged within",
        "",
        "Generated from docs/judged.yaml; do not edit. Beside the permission that an operation names (docs/endpoints.md) its",
        "handler asks this. Each row's tests show it allowed and refused.",
        "",
        "| operations | asked | otherwise | shown by |",
        "|---|---|---|---|",
    ]
    for one in found:
        operations = ", ".join(f"`{name}`" for name in one.operations)
        shown = "<br>".join(f"`{test.rpartition('::')[2]}`" for test in one.tests)
        lines.append(f"| {operations} | {one.asks} | {one.refused} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(judged()), encoding="utf-8")
