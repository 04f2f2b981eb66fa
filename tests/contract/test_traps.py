"""Traps that a reader of the source can see: each was fallen into once, here or elsewhere."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for file in (*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py"))
    if "__pycache__" not in file.parts
)
CONTRACTS = ROOT / "libs" / "contracts"
SERVICES = ROOT / "services"
_BOUNDED = {ROOT / "libs" / "chassis" / "src" / "relevo" / "chassis" / name for name in ("dropper.py", "eraser.py")}
"""Go through the outbox once, and a while later once more through what is as young as any transaction can be."""
_FAMILY = re.compile(r"^(evt|cmd|inbound|outbound|metrics|dead)\.[^\s/]*[.*>{]")


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings and f-strings, `{}` where a value goes in; docstrings are prose."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose | inside:
            yield node.lineno, node.value


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


def subjects_by_hand(file: Path, tree: ast.AST) -> Iterator[str]:
    # The filter below which a metrics credential may read, as grants.metrics_grants spells it.
    allowed = {"metrics.{}.>", "metrics.{}.fact.*"} if not file.is_relative_to(SERVICES) else set()
    for line, text in texts(tree):
        if _FAMILY.match(text) and text not in allowed and not file.is_relative_to(CONTRACTS):
            yield f"{line}: the subject {text!r} is built by hand; take it from relevo.contracts.streams"


def declared_by_accident(file: Path, tree: ast.AST) -> Iterator[str]:
    for function, call in calls(tree):
        words = keywords(call)
        if function.endswith("JStream") and words.get("declare") != "False":
            yield f"{call.lineno}: JStream without declare=False makes streams behind the reconciler's back"
        if function.endswith("NatsBroker") and "ack_policy" not in words:
            yield f"{call.lineno}: a broker without ack_policy rejects for good what failed once"
        if function.endswith(".subscriber") and "max_workers" in words:
            yield f"{call.lineno}: max_workers gives up the order of messages"
        if function.endswith("js.publish") and "stream" not in words and "timeout" not in words:
            yield f"{call.lineno}: js.publish without a time-out"
        if function.endswith((".nak", ".nack")) and "delay" not in words and file.is_relative_to(SERVICES):
            yield f"{call.lineno}: {function} without a delay is a hot loop"


def time_without_zone(_: Path, tree: ast.AST) -> Iterator[str]:
    for function, call in calls(tree):
        if function.endswith(("datetime.utcnow", "datetime.utcfromtimestamp")) or (
            function.endswith("datetime.now") and not call.args and not call.keywords
        ):
            yield f"{call.lineno}: {function} has no time zone"


def blocking_sleep(file: Path, tree: ast.AST) -> Iterator[str]:
    if file.is_relative_to(SERVICES) or "chassis" in file.parts or "adapter" in file.parts:
        yield from (f"{call.lineno}: time.sleep stops the loop" for f, call in calls(tree) if f == "time.sleep")


def notify(file: Path, tree: ast.AST) -> Iterator[str]:
    for line, text in texts(tree):
        if re.search(r"\bpg_notify\b|\bNOTIFY\s+\w|\bLISTEN\s+\w", text):
            yield f"{line}: NOTIFY serialises commits"
        if re.search(r"from\s+outbox\s+where\s+id\s*(>|between)", text, re.IGNORECASE) and file not in _BOUNDED:
            yield f"{line}: a cursor over outbox ids skips late commits"


def services_that_know_each_other(file: Path, tree: ast.AST) -> Iterator[str]:
    if not file.is_relative_to(SERVICES):
        return
    own = file.relative_to(SERVICES).parts[0]
    names = {folder.name for folder in SERVICES.iterdir()} - {own}
    for node in ast.walk(tree):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if module and module.startswith("relevo.") and module.split(".")[1] in names:
            yield f"{node.lineno}: imports {module}"


GUARDS: list[Callable[[Path, ast.AST], Iterator[str]]] = [
    subjects_by_hand,
    declared_by_accident,
    time_without_zone,
    blocking_sleep,
    notify,
    services_that_know_each_other,
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
def test_no_source_falls_into(guard: Callable[[Path, ast.AST], Iterator[str]]) -> None:
    assert len(SOURCES) > 150
    found = [f"{name(file)}:{fault}" for file in SOURCES for fault in guard(file, ast.parse(file.read_text()))]
    assert found == []


@pytest.mark.parametrize(
    ("guard", "source"),
    [
        (subjects_by_hand, 'x = f"evt.conversation.{account}.{entity}.opened"'),
        (subjects_by_hand, 'x = "inbound.*.*.*.message"'),
        (subjects_by_hand, 'x = f"metrics.{account}.>"'),
        (declared_by_accident, 'JStream("OUTBOUND")'),
        (declared_by_accident, "NatsBroker(url)"),
        (declared_by_accident, "await message.nak()"),
        (time_without_zone, "datetime.now()"),
        (blocking_sleep, "time.sleep(1)"),
        (notify, "x = text(\"select pg_notify('a', 'b')\")"),
        (notify, 'x = text("select * from outbox where id > :last")'),
        (notify, 'x = text("select * from outbox where id between 1 and 2")'),
        (services_that_know_each_other, "from relevo.ingest import store"),
    ],
)
def test_a_trap_is_seen(guard: Callable[[Path, ast.AST], Iterator[str]], source: str) -> None:
    assert list(guard(SERVICES / "conversation" / "src" / "x.py", ast.parse(source)))


def test_every_broker_connection_survives() -> None:
    """Each place that connects for good says what to do when the library gives the connection up."""
    for file in SOURCES:
        for function, call in calls(ast.parse(file.read_text())):
            if function in ("nats.connect", "client.connect") and "max_reconnect_attempts" in keywords(call):
                assert {"closed_cb", "reconnected_cb"} & keywords(call).keys(), f"{name(file)}:{call.lineno}"
                assert "inbox_prefix" in keywords(call), f"{name(file)}:{call.lineno}"
