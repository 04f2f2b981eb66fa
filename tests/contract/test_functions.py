"""docs/functions.yaml tells the truth. (That its tests call what it says, conftest.py sees to where they run.)"""

import ast
from collections.abc import Iterator
from functools import cache

import pytest
from functions import ROOT, TABLE, Function, functions, table

from relevo.contracts.catalogue import MESSAGES
from relevo.stack.documents import _placeholders, openapi
from relevo.stack.wiring import installed

FOUND = functions()


def named(one: Function) -> str:
    return f"{one.page} {one.paragraph} {one.function}"


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every operation id of the services' own documents, and every message of the catalogue."""
    found = {message.name for message in MESSAGES}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _placeholders().items():
            patch.setenv(name, value)
        for service in installed():
            for operations in openapi(service)["paths"].values():
                found |= {entry["operationId"] for entry in operations.values() if isinstance(entry, dict)}
    return found


@cache
def collected(file: str) -> dict[str, list[str]]:
    """The tests of a file that pytest collects there, each with its decorators."""
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name: [ast.unparse(decorator) for decorator in node.decorator_list]
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def shown_by(found: list[Function]) -> Iterator[str]:
    for one in found:
        yield from one.tests


@pytest.mark.parametrize("one", FOUND, ids=named)
def test_a_function_is_kept_and_shown_or_said_to_be_missing(one: Function, known: set[str]) -> None:
    assert bool(one.operations) is bool(one.tests) is not one.missing
    assert set(one.operations) <= known


@pytest.mark.parametrize("test", sorted(set(shown_by(FOUND))))
def test_a_test_that_is_named_is_there_and_runs(test: str) -> None:
    file, _, name = test.partition("::")
    decorators = collected(file)[name]
    assert not [one for one in decorators if "skip" in one or "deep" in one or "xfail" in one]


def test_no_function_stands_there_twice() -> None:
    assert len({named(one) for one in FOUND}) == len(FOUND)


def test_the_table_is_current() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(FOUND), "run `make docs` and commit what it writes"
