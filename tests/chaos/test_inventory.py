"""Nothing is left out without a word: neither a crash point, nor what the checker may know."""

import ast
from pathlib import Path

from chaos import checker
from chaos.inventory import ELSEWHERE, IMPOSSIBLE, ROOT, found, plan, points_in, services

from relevo.contracts.catalogue import SERVICES


def test_every_crash_point_of_every_service_is_planned_or_explained() -> None:
    assert set(services()) == set(SERVICES)
    assert set(plan()) | IMPOSSIBLE.keys() == found()
    assert set(plan()).isdisjoint(IMPOSSIBLE)
    assert all(IMPOSSIBLE.values())
    assert {service for service, _ in plan()} == set(SERVICES)
    everywhere = {
        point for part in ("libs", "services") for src in ROOT.glob(f"{part}/*/src") for point in points_in(src)
    }
    assert {point for _, point in plan()} | ELSEWHERE.keys() == everywhere
    for point, test in ELSEWHERE.items():
        assert f'"{point}' in (ROOT / test).read_text(), f"{test} dies no more at {point}"


def test_a_crash_point_is_found_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("crash_point(\"one.two\")\n    crash_point(\n        'three.four'\n    )\n")
    assert points_in(tmp_path) == {"one.two", "three.four"}
    written = [
        file
        for file in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "crash_point"
        and not isinstance(node.args[0], ast.Constant)
    ]
    assert written == [], "a name that is computed cannot be planned"


def test_the_checker_knows_nothing_of_the_project() -> None:
    assert checker.__file__ is not None
    imported = set()
    for node in ast.walk(ast.parse(Path(checker.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    ours = {"relevo", "chaos", "whole_stack"}
    assert imported.isdisjoint(ours)
    assert "importlib" not in imported
