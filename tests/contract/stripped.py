"""Every statement of a service, and each of them without its WHERE clauses."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Executable, text

from relevo.chassis.erasing import Personal
from relevo.chassis.statements import rendered

_TOKEN = re.compile(
    r"""\s+ | --[^\n]* | /\*.*?\*/ | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | %\(\w+\)s | %[s%] | \w+ | .""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_WHERE = frozenset(
    "group order having limit offset fetch for window union intersect except returning on".split()  # noqa: SIM905
)
_WRITES = re.compile(r"\b(insert|update|delete)\b(?!\s+skip)", re.IGNORECASE)
_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+)?update\b", re.IGNORECASE)


def written(package: str) -> set[str]:
    """What the modules of a package hold as statements, as psycopg takes them. Those that a function composes are not there."""
    found = set()
    top = importlib.import_module(package)
    for module in pkgutil.walk_packages(top.__path__, f"{package}."):
        if not re.search(r"\.(migrations|testing|__main__)\b", module.name):
            for statement in _statements(vars(importlib.import_module(module.name)).values()):
                found.add(rendered(statement, None)[0])
    return found


def _statements(values: Any) -> Iterator[Executable]:
    for value in values:
        if isinstance(value, Executable):
            yield value
        elif isinstance(value, Personal):
            yield from (text(held.statement()) for held in value.held)
        elif isinstance(value, Mapping):
            yield from _statements(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _statements(value)


def writes(statement: str) -> bool:
    """Whether it changes rows."""
    return _WRITES.search(_LOCKS.sub("", statement)) is not None


def stripped(statement: str) -> str:
    """The statement without any WHERE clause, of sub-queries and aggregates' filters too.

    What stays is the WHERE of ON CONFLICT (…), which names an index and chooses no rows.
    """
    tokens = [match.group() for match in _TOKEN.finditer(statement)]
    kept: list[str] = []
    opened: list[int] = []  # where in `kept` each open parenthesis is
    closed = -1  # where the parenthesis that was closed last had been opened
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token == "(":
            opened.append(len(kept))
        elif token == ")":
            closed = opened.pop()
        elif token.lower() == "where":
            before = _last(kept, len(kept))
            if before is not None and kept[before] == ")" and _word(kept, closed) == "conflict":
                kept.append(token)
                at += 1
                continue
            at = _end(tokens, at)
            if before is not None and kept[before] == "(" and _word(kept, before) == "filter":
                filtered = _last(kept, before)
                assert filtered is not None
                del kept[filtered:]
                opened.pop()
                at += 1
            continue
        kept.append(token)
        at += 1
    return "".join(kept)


def _last(tokens: list[str], end: int) -> int | None:
    """Where the last token before `end` is that is neither space nor comment."""
    return next((n for n in reversed(range(end)) if tokens[n].strip() and not tokens[n].startswith(("--", "/*"))), None)


def _word(tokens: list[str], end: int) -> str:
    before = _last(tokens, end)
    return "" if before is None else tokens[before].lower()


def _end(tokens: list[str], where: int) -> int:
    """Where the clause that begins here is over."""
    depth = 0
    for at in range(where + 1, len(tokens)):
        if tokens[at] == "(":
            depth += 1
        elif tokens[at] == ")":
            if not depth:
                return at
            depth -= 1
        elif not depth and (tokens[at].lower() in _AFTER_WHERE or tokens[at] == ";"):
            return at
    return len(tokens)
