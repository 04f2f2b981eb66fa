"""The benchmark: its arithmetic, its messages, its floor on real servers, and a short measurement of a whole stack."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.inbound import InboundMessage
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key
from relevo.stack.bench import floor, load, machine
from relevo.stack.bench.drive import Run
from relevo.stack.bench.figures import Search, due_by, firsts, is_first, is_matched, matched, percentile, summarise
from relevo.stack.bench.floor import Share, counts
from relevo.stack.bench.measure import QUICK
from relevo.stack.bench.watch import Tally
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


@given(st.integers(0, 500), st.sampled_from(["mix", "S1"]))
def test_what_is_expected_of_a_run_is_what_it_sends(total: int, scenario: Any) -> None:
    assert firsts(scenario, total) == sum(is_first(scenario, n) for n in range(total))
    assert matched(total) == sum(is_matched(n) for n in range(total))


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
    search = Search(100, probes=3)
    for expected in (100, 150, 225):
        assert search.next == expected
        search.tell(held=True)
    assert search.next is None
    assert search.held == 225


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
    for number in range(50):
        contacts.pick("S1", number)
    assert len(contacts) == 50
    senders = Counter(contacts.pick("mix", number)[0] for number in range(100))
    assert len(contacts) == 60
    assert len(senders) > 30
    sender, subject, key = contacts.pick("mix", 3)
    assert key == sender_key(sender)
    assert subject == INBOUND.subject(account="account", inbox="inbox", sender=key, kind="message")


def fact(metric: str, number: int, at: str, conversation: str, inbox: str | None = "inbox") -> dict[str, Any]:
    return {
        "metric": metric,
        "fact_id": f"fact-{number}",
        "at": at,
        "conversation_id": conversation,
        "dimensions": {"inbox_id": inbox},
    }


def test_a_fact_counts_once_and_only_of_its_own_run() -> None:
    tally = Tally("inbox", since=1000.0)
    at = "1970-01-01T00:16:50Z"  # 1010
    tally.take(fact("messages_in", 1, at, "c1"), 1010.5)
    tally.take(fact("messages_in", 1, at, "c1"), 1012.0)
    tally.take(fact("messages_in", 2, "1970-01-01T00:16:52Z", "c1"), 1012.25)
    tally.take(fact("messages_in", 3, "1970-01-01T00:16:39Z", "c2"), 1013.0)  # 999: another run's
    tally.take(fact("messages_in", 4, at, "c3", "another inbox"), 1013.0)
    tally.take(fact("wait_in_queue", 5, "1970-01-01T00:16:51Z", "c1", None), 1011.0)
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


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.deep
def test_a_quick_measurement_of_a_whole_stack(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "relevo.stack", "bench", "--quick", "--json", str(file)],
        env={**os.environ, "RELEVO_HOME": str(tmp_path / "home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
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
    assert figures["floor"]["rate"] > mix["rate"]
    assert figures["rest"]["singles"]["measured"]["count"] == QUICK.singles
    assert not (tmp_path / "home").exists()
