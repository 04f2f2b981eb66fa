"""The benchmark: its arithmetic, its messages, its floor on real servers, and a short measurement of a whole stack."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import start_http_server
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from relevo.chassis import credentials, telemetry
from relevo.contracts.base import new_id
from relevo.contracts.inbound import InboundMessage
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key
from relevo.stack.bench import baseline, floor, load, machine, profile, report, results, scenarios, stored
from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Latency, Search, due_by, is_first, is_matched, percentile, summarise
from relevo.stack.bench.floor import Share, counts
from relevo.stack.bench.goals import goals
from relevo.stack.bench.results import QUICK
from relevo.stack.bench.watch import Tally
from relevo.stack.bench.wire import Wire, frame_of
from relevo.stack.bench.worker import Worker
from relevo.stack.errors import StackError
from relevo.stack.testing import TestServers, run_apart

seconds = st.floats(0, 100, allow_nan=False)


# -- arithmetic -------------------------------------------------------------------------------------------------------


@given(st.lists(seconds, min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_percentiles_of_a_hundred() -> None:
    latency = summarise(range(100, 0, -1))
    assert latency is not None
    assert (latency.count, latency.p50, latency.p95, latency.p99, latency.longest) == (100, 50, 95, 99, 100)
    assert summarise([]) is None
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


@given(st.floats(0.5, 5000), st.integers(1, 500))
def test_every_message_of_an_open_loop_is_due_at_its_time_and_not_before(rate: float, total: int) -> None:
    assert due_by(-1e-3, rate, total) == 0
    assert due_by(0, rate, total) == 1
    for number in range(total):
        assert due_by(number / rate, rate, total) >= number + 1
        assert due_by(number / rate - 1e-6, rate, total) <= number + (1e-6 * rate > 1)
    assert due_by(total / rate + 1, rate, total) == total


def test_one_in_ten_of_the_mix_is_new_and_another_tenth_matches() -> None:
    assert [n for n in range(30) if is_first("mix", n)] == [0, 10, 20]
    assert [n for n in range(30) if is_matched(n)] == [5, 15, 25]
    assert all(is_first("S1", n) for n in range(30))
    assert not any(is_first("S2", n) for n in range(30))


@given(st.floats(5, 5000), st.floats(1, 20000), st.floats(0.05, 0.5))
def test_the_search_finds_what_holds(start: float, limit: float, precision: float) -> None:
    search = Search(start, precision=precision, probes=60)
    while search.next is not None:
        search.tell(held=search.next <= limit)
    if search.held is None:
        assert limit < 5
    else:
        assert search.held <= limit
        assert search.failed is not None
        assert limit < search.failed <= search.held * (1 + precision) * (1 + 1e-9)


def test_the_search_ends_after_its_probes() -> None:
    search = Search(100, step=1.5, probes=3)
    for expected in (100, 150, 225):
        assert search.next == expected
        search.tell(held=True)
    assert search.next is None
    assert search.held == 225


def test_a_rate_that_failed_once_is_tried_again() -> None:
    search = Search(100, step=1.5)
    search.tell(held=False)
    assert (search.next, search.failed) == (100, None)
    search.tell(held=True)
    assert (search.held, search.next) == (100, 150)
    search.tell(held=False)
    search.tell(held=False)
    assert search.failed == 150
    assert search.next == pytest.approx(122.47, abs=0.01)


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"drained": 1.2}, False),
        ({"slip": 1.2}, False),
        ({"stopped": True}, False),
        ({"lost": 1}, False),
        ({"unacknowledged": 1}, False),
        ({"twice": 1}, True),
    ],
)
def test_when_a_rate_holds(changed: dict[str, Any], held: bool) -> None:
    run: dict[str, Any] = {
        "scenario": "mix",
        "rate": 100.0,
        "sent": 200,
        "took": 2.0,
        "drained": 0.5,
        "stopped": False,
        "lost": 0,
        "twice": 0,
        "unacknowledged": 0,
        "slip": 0.0,
        "loader_cpu": 0.1,
        "measured": None,
        "assigned": None,
    }
    assert Run(**run | changed).held is held
    assert Run(**run).carried == 80


# -- what is sent and what is counted ---------------------------------------------------------------------------------


def test_a_message_on_the_wire_is_the_contracts_and_is_due_at_its_time() -> None:
    body = load.body("run-7", "bench-abc-1", load.MATCHING, "2026-03-01T10:00:00.250000+00:00")
    message = InboundMessage.model_validate_json(body)
    assert (message.external_id, message.sender.id, message.content.text) == ("run-7", "bench-abc-1", load.MATCHING)
    assert message.occurred_at.isoformat() == "2026-03-01T10:00:00.250000+00:00"


def test_one_in_ten_of_the_mix_is_new_and_the_others_are_known() -> None:
    contacts = load.Contacts("account", "inbox")
    for _ in range(50):
        contacts.pick(first=True)
    assert len(contacts) == 50
    senders = Counter(contacts.pick(first=is_first("mix", number))[0] for number in range(100))
    assert len(contacts) == 60
    assert len(senders) > 30
    sender, subject, key = contacts.pick(first=False)
    assert key == sender_key(sender)
    assert subject == INBOUND.subject(account="account", inbox="inbox", sender=key, kind="message")


def fact(metric: str, number: int, at: str, conversation: str, inbox: str = "inbox") -> dict[str, Any]:
    return {
        "metric": metric,
        "fact_id": f"fact-{number}",
        "at": at,
        "conversation_id": conversation,
        "dimensions": {"inbox_id": inbox},
    }


def test_a_fact_counts_once_and_only_of_its_own_run() -> None:
    tally = Tally(["inbox"], since=1000.0)
    at = "1970-01-01T00:16:50Z"  # 1010
    tally.take(fact("messages_in", 1, at, "c1"), 1010.5)
    tally.take(fact("messages_in", 1, at, "c1"), 1012.0)
    tally.take(fact("messages_in", 2, "1970-01-01T00:16:52Z", "c1"), 1012.25)
    tally.take(fact("messages_in", 3, "1970-01-01T00:16:39Z", "c2"), 1013.0)  # 999: another run's
    tally.take(fact("messages_in", 4, at, "c3", "another inbox"), 1013.0)
    tally.take(fact("wait_in_queue", 5, "1970-01-01T00:16:51Z", "c1"), 1011.0)
    tally.take(fact("labels_added", 6, at, "c1"), 1013.0)
    summary = tally.summary()
    assert summary["counts"] == {"messages_in": 2, "wait_in_queue": 1, "rules_executed": 0}
    assert summary["twice"] == 1
    assert summary["last"] == 1012.25
    assert (summary["measured"]["count"], summary["measured"]["p50"], summary["measured"]["longest"]) == (2, 0.25, 0.5)
    assert (summary["assigned"]["count"], summary["assigned"]["p50"]) == (1, 1.0)


# -- the machine ------------------------------------------------------------------------------------------------------


def test_usage_counts_what_a_process_and_its_children_take() -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    program = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print('done', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = machine.usage_of({"it": process.pid})["it"]
        process.communicate(b"\n")
    assert 0.2 <= used.cpu < 5
    assert 2 * 1024**2 < used.rss < 200 * 1024**2


def test_queues_and_batches_are_read_as_services_expose_them() -> None:
    telemetry.LAG.labels("bench-a", "EVT_B", "0").set(3)
    telemetry.LAG.labels("bench-a", "EVT_B", "1").set(4)
    telemetry.BATCH_SIZE.labels("bench-a").observe(7)
    telemetry.BATCH_SIZE.labels("bench-a").observe(2)
    telemetry.HANDLE_SECONDS.labels("bench-a").observe(0.5)
    telemetry.EVENTS.labels("bench-a", "EVT_B", "handled").inc(9)
    telemetry.EVENTS.labels("bench-a", "EVT_C", "handled").inc(2)
    telemetry.EVENTS.labels("bench-a", "EVT_B", "known").inc(4)
    server, thread = start_http_server(0, "127.0.0.1", telemetry.REGISTRY)
    try:
        assert machine.lags([server.server_port])["bench-a ← EVT_B"] == 7
        assert machine.handled([server.server_port], "bench-a", "EVT_B") == 9
        assert machine.batched([server.server_port])["bench-a"] == machine.Batched(2, 9, 0.5)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_without_durability_there_is_no_figure(servers: TestServers) -> None:
    if servers.nats is None:
        pytest.skip("the broker's monitoring port is not known")
    # The servers of the tests are: NATS as in production, PostgreSQL without a single fsync.
    with pytest.raises(StackError, match="fsync is off; postgres synchronous_commit is off") as refused:
        machine.check_durable(servers.nats.monitoring_url, servers.pg_admin_dsn)
    assert "sync_interval" not in str(refused.value)


# -- the floor --------------------------------------------------------------------------------------------------------


def test_the_floor_writes_rows_and_publishes_events_in_batches(servers: TestServers) -> None:
    bus = servers.create_bus()
    credentials = bus.user(
        floor.USER,
        publish=[floor.SUBJECT, f"$JS.API.STREAM.*.{floor.STREAM}"],
        subscribe=[f"_INBOX_{floor.USER}.>"],
    )
    share = Share(rows=2.5, events=3.1, event_bytes=700)
    assert counts(share, 200) == (500, 620)
    where = {"nats_url": bus.nats_url, "credentials": str(credentials), "dsn": servers.create_database()}

    async def run() -> dict[str, Any]:
        async with Worker("relevo.stack.bench.floor", where) as worker:
            return await worker.ask(do="run", share=asdict(share), seconds=0.5)

    found = run_apart(run)
    assert found["messages"] > 0
    assert found["messages"] % 200 == 0
    assert 0 < found["rate"] <= found["messages"] / 0.5
    with psycopg.connect(where["dsn"]) as connection:
        rows = connection.execute("SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM outbox)").fetchone()
    assert rows == (found["messages"] * 2.5, found["messages"] * 3.1)


async def test_a_worker_that_dies_is_said_and_nothing_hangs() -> None:
    with pytest.raises(StackError, match="ended in the middle"):
        async with Worker("relevo.stack.bench.floor", {"nats_url": "and nothing else"}):
            pass


# -- the baseline -----------------------------------------------------------------------------------------------------


async def test_the_baseline_does_the_same_work_once(servers: TestServers) -> None:
    dsn = servers.create_database()
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    account, at = new_id(), datetime(2026, 3, 1, 10, tzinfo=UTC)
    await baseline.prepare(engine, account, 4)

    async def take(number: int, sender: str, text: str) -> str:
        message = baseline.Incoming(external_id=f"m-{number}", sender=sender, text=text, occurred_at=at)
        async with engine.begin() as connection:
            return await baseline.take(connection, account, message)

    first = await take(1, "ana", load.OTHER)
    assert await take(2, "ana", load.MATCHING) == first
    assert await take(3, "luis", load.MATCHING) != first
    assert await take(3, "luis", load.MATCHING) == ""
    await engine.dispose()
    with psycopg.connect(dsn) as connection:
        facts = dict(connection.execute("SELECT metric, count(*) FROM facts GROUP BY 1").fetchall())
        found = connection.execute(
            "SELECT count(*), sum(message_count), count(assignee_id), count(*) FILTER (WHERE labels = ARRAY['bench avería'])"
            " FROM conversations"
        ).fetchone()
        (load_,) = connection.execute("SELECT sum(load) FROM agents").fetchone() or ()
    assert facts == {
        "messages_in": 3,
        "conversations_opened": 2,
        "wait_in_queue": 2,
        "rules_executed": 2,
        "labels_added": 2,
    }
    assert found == (2, 3, 2, 2)
    assert load_ == 2


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_the_wire_carries_messages_with_and_without_headers_to_a_stream(servers: TestServers) -> None:
    bus = servers.create_bus()
    credentials = bus.user("bench", publish=["$JS.API.>", "things.>", "things"], subscribe=["_INBOX_bench.>"])
    got: list[tuple[bytes, bytes, bytes]] = []

    async def run() -> None:
        arrived = asyncio.Event()

        def take(subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> None:
            got.append((subject.rpartition(b".")[2], headers, payload))
            arrived.set()

        wire = Wire(bus.nats_url, "bench", str(credentials), take)
        await wire.open()

        async def ask(subject: str, name: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
            arrived.clear()
            assert wire.send(frame_of(subject, f"{wire.inbox}.{name}", payload, headers))
            async with asyncio.timeout(30):
                await arrived.wait()

        config = {"name": "THINGS", "subjects": ["things.>"], "storage": "memory"}
        await ask("$JS.API.STREAM.CREATE.THINGS", "made", json.dumps(config).encode())
        await ask("things.a", "first", "ñandú".encode(), {"Nats-Msg-Id": "1"})
        await ask("things.a", "second", "ñandú".encode(), {"Nats-Msg-Id": "1"})
        await ask("things", "nobody", b"")
        await wire.close()

    run_apart(run)
    assert [name for name, _, _ in got] == [b"made", b"first", b"second", b"nobody"]
    assert json.loads(got[1][2])["seq"] == 1
    assert json.loads(got[2][2])["duplicate"] is True
    assert got[3][1].startswith(b"NATS/1.0 503")


def test_the_wire_says_why_it_is_not_let_in(servers: TestServers) -> None:
    other = servers.create_bus()
    good = other.user("bench", publish=[">"], subscribe=["_INBOX_bench.>"])
    seed = credentials.new_user().seed
    jwt, _ = credentials.parse_creds(good.read_text())
    good.write_text(credentials.creds_file(jwt, seed))  # another's key under the right name

    async def run() -> None:
        await Wire(other.nats_url, "bench", str(good), lambda *_: None).open()

    with pytest.raises(StackError, match="Authorization Violation"):
        run_apart(run)


# -- what is reported -------------------------------------------------------------------------------------------------


def latency(p99: float) -> dict[str, Any]:
    return {"count": 100, "p50": p99 / 4, "p95": p99 / 2, "p99": p99, "longest": p99 * 2}


def a_run(rate: float, p99: float = 0.5, **changed: Any) -> dict[str, Any]:
    run = Run("mix", rate, 100, 2.0, 0.5, stopped=False, lost=0, twice=0, unacknowledged=0, slip=0.0, loader_cpu=0.1,
              measured=Latency(**latency(p99)), assigned=None)  # fmt: skip
    return {**asdict(run), **changed}


def a_document(**changed: Any) -> dict[str, Any]:
    def part(scenario: str, rate: float) -> dict[str, Any]:
        return {
            "scenario": scenario,
            "rate": rate,
            "run": a_run(rate),
            "half": a_run(rate / 2, 0.2),
            "probes": [],
            "costs": [
                {"name": "postgres", "cpu_per_message": 0.001, "cores": 0.5, "rss": 400 * 1024**2, "pss": 90 * 1024**2},
                {"name": "ingest", "cpu_per_message": 0.001, "cores": 0.5, "rss": 140 * 1024**2, "pss": 90 * 1024**2},
            ],
            "batches": [{"service": "ingest", "count": 9, "mean_events": 40.0, "mean_seconds": 0.02}],
            "bench_cores": 0.1,
            "other_cores": 0.0,
        }

    both = ("mix", "S1")
    floor_ = {"rate": 3000.0, "cpu_per_message": 0.0003, "rows": 4.0, "events": 4.0, "event_bytes": 1500}
    base = {"rate": 300.0, "run": a_run(300), "program_cpu_per_message": 0.002, "database_cpu_per_message": 0.001}
    written = dict.fromkeys(
        ("events", "event_bytes", "rows", "outbox_rows", "changes", "transactions", "wal_bytes"), 4.0
    )
    return {
        "began": "2026-03-01T10:00:00+00:00",
        "version": "1",
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "memory_bytes": 8 * 1024**3,
            "system": "Linux",
            "python": "3.11",
            "file_system": "ext4",
            "sync_seconds": 0.0001,
            "load_average_before": 0.1,
            "load_average_after": 2.0,
            "commit": "abc",
        },
        "durable": {"nats sync_interval": "always"},
        "replicas": {"ingest": 1},
        "plan": asdict(QUICK),
        "rest": {"cores": {"postgres": 0.05, "ingest": 0.01}, "rss": {}, "singles": a_run(1, 0.05)},
        "mix": part("mix", 1600.0),
        "s1": part("S1", 390.0),
        "writes_per_message": dict.fromkeys(both, written),
        "floor": dict.fromkeys(both, floor_),
        "baseline": dict.fromkeys(both, base),
        "floor_ratio": 1600 / 3000,
        "restarts": 0,
        "scenarios": {},
        "sweeps": {},
        "profile": {},
        "problems": [],
        **changed,
    }


def test_what_was_promised_is_held_against_what_was_measured() -> None:
    point = {"accounts": 10, "rate": 900.0, "ratio": 3.5}
    found = {
        goal.name: goal.met for goal in goals(a_document(sweeps={"accounts": [{"accounts": 1, "ratio": None}, point]}))
    }
    assert found["mix, messages/s"] is True
    assert found["S1, new conversations/s"] is False
    assert found["mix: p99 at half the rate, s"] is True
    assert found["one message a second: p99, ms"] is True
    assert found["memory of the largest service (ingest), MB"] is True
    assert found["10 accounts, one floods: p99 of the others, times"] is False
    heavy = a_document()
    heavy["s1"]["costs"][1]["rss"] = 151 * 1024**2
    assert [goal.name for goal in goals(heavy) if not goal.met] == [
        "S1, new conversations/s",
        "memory of the largest service (ingest), MB",
    ]


def test_the_page_is_made_of_the_document_and_says_the_same(tmp_path: Path) -> None:
    document = json.loads(json.dumps(a_document(problems=["2 facts were published twice"])))
    report.write(document, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert json.loads((tmp_path / "benchmarks.json").read_text()) == document
    assert report.MARK in page
    assert "`sustained: 1600 messages/s (mix), 390 conversations/s (S1), floor ratio 0.53`" in page
    assert results.line(document) in page
    assert "| mix, messages/s | ≥ 1,500 | 1,600 | ✓ |" in page
    assert "✗ 2 facts were published twice" in page
    for line in page.splitlines():  # every table has as many cells in each row as in its head
        if line.startswith("|---"):
            width = line.count("|")
        if line.startswith("| "):
            cells = line.count("|")
        assert not line.startswith("|---") or cells == width


def test_everything_that_was_asked_for_is_on_the_page() -> None:
    s2 = {**a_document()["mix"], "scenario": "S2", "rate": 1700.0}
    two = Latency(**latency(0.05))
    killed = scenarios.Killed("nats", None, Run(**{**a_run(8, unacknowledged=2), "measured": None}))
    found = {
        "S2": s2,
        "S3": [{"offered": 4800.0, "run": a_run(4800), "drain_rate": 1500.0}],
        "S4": [asdict(killed)],
        "S5": {
            "without": a_run(8),
            "run": a_run(8),
            "at_full": a_run(8),
            "at_full_held": True,
            "reads": {"summary": asdict(two)},
            "facts": 12345,
        },
        "S6": asdict(scenarios.Again(400, 0.1, 4000.0, 0, {"messages": 1, "facts": 0})),
    }
    point = {"setting": 3, "rates": {"mix": 900.0, "S1": 300.0}, "half_p99": {"mix": 0.2, "S1": 0.3}}
    flooded = {
        "accounts": 10,
        "rate": 800.0,
        "ratio": 7.25,
        "calm": a_run(8),
        "flooded": a_run(8),
        "flooder": a_run(1600),
        "waiting": {"ingest ← INBOUND": 9000},
    }
    alone = {"accounts": 1, "rate": 800.0, "ratio": None, "calm": None, "flooded": None, "flooder": None, "waiting": {}}
    sampled = {
        "rate": 500.0,
        "services": {"ingest": {"samples": 100, "self": [["a.py:f", 0.5]], "with_callees": [["b.py:g", 0.75]]}},
    }
    sweeps = {"replicas": [point], "conversations": [point], "accounts": [alone, flooded]}
    page = report.markdown(a_document(scenarios=found, sweeps=sweeps, profile=sampled))
    for row in (
        "1,700 messages/s for 2 s",
        "| mix | 4,800 | 2 s | 100 | 0.5 s | 1,500 | 1.0 s | 0 | 0 |",
        "| nats | never |  | 100 | 2 | 0 |",
        "| summary | 100 | 12 | 25 | 50 | 100 |",
        "400 messages sent a second time were recognised at 4,000/s; new facts: 0; new rows: messages 1, facts 0.",
        "| 3 | 900 | 300 | 200 | 300 |",
        "| 10 | 800 | 500 | 500 | 7.2 | 50 | 0 |",
        "10 accounts: ingest ← INBOUND 9,000",
        "| a.py:f | 50.0% |",
        "| b.py:g | 75.0% |",
        "| 10 accounts, one floods: p99 of the others, times | ≤ 2 | 7.2 | ✗ |",
    ):
        assert row in page
    assert scenarios.problems(found) == [
        "S4, nats killed: 2 messages were never acknowledged",
        "S4: nats did not recover",
        "S6: sent again, {'messages': 1} were new",
    ]


def test_the_committed_page_is_what_its_figures_say() -> None:
    folder = Path(__file__).parents[3] / "docs"
    if not (folder / "benchmarks.json").exists():
        pytest.skip("nothing was measured for this version yet: relevo bench --all --docs docs")
    document = json.loads((folder / "benchmarks.json").read_text())
    assert (folder / "benchmarks.md").read_text() == report.markdown(document)


def test_lost_facts_and_fallen_processes_are_problems() -> None:
    assert results.problems(a_document()) == []
    document = a_document(restarts=1)
    document["mix"]["probes"] = [a_run(5, lost=3, twice=1)]
    assert results.problems(document) == [
        "3 things were acknowledged and never counted",
        "1 facts were published twice",
        "1 processes fell and were started again",
    ]


def test_samples_of_a_process_name_its_functions(tmp_path: Path) -> None:
    """The interpreter is sampled as a service's is, and its samples read as the report reads them."""
    (tmp_path / "relevo_busy.py").write_text(
        "import time\n\ndef burn():\n    end = time.process_time() + 0.5\n    while time.process_time() < end:\n"
        "        pass\n\nburn()\n"
    )
    sampling = Path(profile.__file__).parent / "sampling"
    done = subprocess.run(
        [sys.executable, "-m", "relevo_busy", "serve"],
        env={**os.environ, "PYTHONPATH": f"{sampling}:{tmp_path}", "RELEVO_BENCH_SAMPLES": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert done.returncode == 0
    found = profile.read(tmp_path)["relevo_busy"]
    assert found["samples"] > 20
    name, part = found["self"][0]
    assert name.endswith("relevo_busy.py:burn")
    assert part > 0.5


def test_stored_conversations_fit_the_conversation_services_tables(servers: TestServers) -> None:
    dsn = servers.create_database()
    subprocess.run(
        [sys.executable, "-m", "relevo.conversation", "migrate"],
        env={
            **os.environ,
            "RELEVO_DATABASE_URL": dsn,
            "RELEVO_NATS_URL": servers.nats_url,
            "RELEVO_NATS_CREDENTIALS": "none",
        },
        check=True,
        timeout=120,
    )
    admin = urlunsplit(urlsplit(servers.pg_admin_dsn)._replace(path=urlsplit(dsn).path))
    stored.seed(admin, 120)
    with psycopg.connect(admin) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT c.id), count(DISTINCT c.number), count(m.id), count(DISTINCT c.account_id)"
            " FROM conversations c JOIN contacts p ON p.id = c.contact_id JOIN messages m ON m.conversation_id = c.id"
        ).fetchone()
    assert found == (120, 120, 120, 120, 1)


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.deep
def test_a_quick_measurement_of_a_whole_stack(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "relevo.stack", "bench", "--quick", "--scenarios", "--json", str(file)],
        env={**os.environ, "RELEVO_HOME": str(tmp_path / "home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr} after {time.monotonic() - began:.0f} s"
    figures = json.loads(file.read_text())
    mix, s1 = figures["mix"], figures["s1"]
    assert done.stdout.strip().splitlines()[-1] == (
        f"sustained: {mix['rate']:.0f} messages/s (mix), {s1['rate']:.0f} conversations/s (S1),"
        f" floor ratio {figures['floor_ratio']:.2f}"
    )
    assert figures["durable"]["nats sync_interval"] == "always"
    assert figures["problems"] == []
    for part in (mix, s1):
        assert part["run"]["measured"]["count"] == part["run"]["sent"]
        assert {"postgres", "nats", "conversation"} <= {cost["name"] for cost in part["costs"]}
        assert figures["floor"][part["scenario"]]["rate"] > part["rate"]
        assert figures["baseline"][part["scenario"]]["rate"] > 0
        assert {"ingest", "conversation"} <= {one["service"] for one in part["batches"]}
    assert figures["rest"]["singles"]["measured"]["count"] == QUICK.singles
    assert {killed["process"] for killed in figures["scenarios"]["S4"]} >= {
        "postgres",
        "nats",
        "conversation",
        "reporting",
    }
    assert not any(figures["scenarios"]["S6"]["new_rows"].values())
    assert not (tmp_path / "home").exists()


@pytest.mark.timeout(900)
@pytest.mark.deep
def test_quick_sweeps_and_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    parts = [word for part in ("accounts", "conversations", "profile") for word in ("--only", part)]
    done = subprocess.run(
        [sys.executable, "-m", "relevo.stack", "bench", "--quick", *parts, "--json", str(file)],
        env={**os.environ, "RELEVO_HOME": str(tmp_path / "home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(file.read_text())
    alone, flooded = found["sweeps"]["accounts"]
    assert (alone["accounts"], alone["ratio"]) == (1, None)
    assert flooded["ratio"] > 0
    assert flooded["flooded"]["lost"] == flooded["flooder"]["lost"] == 0
    assert [point["setting"] for point in found["sweeps"]["conversations"]] == [0, 1000]
    assert "conversation" in found["profile"]["services"]
