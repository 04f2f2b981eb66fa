"""docs/judged.yaml tells all that handlers ask within. (That its tests call what it says, conftest.py sees to.)"""

import ast

import pytest
from judged import ROOT, TABLE, Judged, asked, judged, table
from walker import Walker

FOUND = judged()


def test_whatever_is_asked_within_stands_in_the_table() -> None:
    told = [where for one in FOUND for where in one.where]
    assert len(told) == len(set(told))
    assert set(told) == set(asked()), (
        "docs/judged.yaml: say what is asked there, who is refused, and which tests show it"
    )


@pytest.mark.parametrize("one", FOUND, ids=lambda one: one.where[0] if one.where else one.asks)
def test_a_row_names_operations_and_tests_that_are_there(one: Judged) -> None:
    assert set(one.operations) <= {operation.id for operation in Walker({}).operations()}
    assert one.tests
    for test in one.tests:
        file, _, name = test.partition("::")
        module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        nodes = [n for n in module.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name]
        assert len(nodes) == 1, test
        decorators = [ast.unparse(decorator) for decorator in nodes[0].decorator_list]
        assert not [one for one in decorators if "skip" in one or "deep" in one or "xfail" in one], test


def test_the_table_is_current() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(FOUND), "run `make docs` and commit what it writes"
