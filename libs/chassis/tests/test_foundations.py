"""Settings, logs, trace context, migrations, the projection of the directory, and the watchdog."""

import asyncio
import io
import json
import logging as stdlib_logging
import os
import subprocess
import sys
import textwrap
import threading
import time

import psycopg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from relevo.chassis import directory, logging, telemetry
from relevo.chassis.database import Database, Pool, described
from relevo.chassis.health import LoopWatchdog
from relevo.chassis.migrations import _LOCK, migrate
from relevo.chassis.problems import from_validation
from relevo.chassis.settings import BadSettings, ServiceSettings
from relevo.contracts.base import Time, new_id
from relevo.contracts.identity import AccountState, TeamState
from relevo.contracts.ingest import InboxState


def test_bad_settings_name_every_variable_and_no_value(monkeypatch):
    monkeypatch.setenv("RELEVO_HTTP_PORT", "hunter2")
    monkeypatch.setenv("RELEVO_DATABASE_URL", "mysql://u:hunter2@h/d")
    with pytest.raises(BadSettings) as error:
        ServiceSettings()
    text = str(error.value)
    assert "RELEVO_HTTP_PORT: " in text
    assert "RELEVO_DATABASE_URL: must look like postgresql://" in text
    assert "hunter2" not in text
    monkeypatch.delenv("RELEVO_DATABASE_URL")
    with pytest.raises(BadSettings, match="RELEVO_DATABASE_URL: is not set"):
        ServiceSettings(http_port=1)


def test_settings_do_not_show_the_password():
    settings = ServiceSettings(database_url="postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(settings)


@pytest.fixture
def log_lines():
    out = io.StringIO()
    root = stdlib_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logging.configure("svc", level="info", form="json", stream=out)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_logs_carry_ids_and_mask_secrets(log_lines):
    log = structlog.get_logger("x")
    with logging.log_context(account="a1", event_id="e1"):
        log.info("said", password="hunter2", api_key="hunter2", inner={"Authorization": "hunter2"}, size=3)
        stdlib_logging.getLogger("lib").warning("cannot reach postgresql://u:%s@h/d", "hunter2")
    log.debug("too fine")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed", sender="ok")
    first, second, third = log_lines()
    assert (first["event"], first["account"], first["event_id"]) == ("said", "a1", "e1")
    assert (first["service"], first["size"]) == ("svc", 3)
    assert "hunter2" not in json.dumps([first, second, third])
    assert (second["level"], second["account"]) == ("warning", "a1")
    assert "ValueError: broken" in third["exception"]
    assert "account" not in third


def test_what_is_tried_again_is_said_once_and_then_once_a_minute(log_lines):
    log = structlog.get_logger("x")
    for _ in range(3):
        log.warning("feed_again", partition=1, error="away")
    log.warning("feed_again", partition=2, error="away")
    log.warning("feed_again", partition=2, error="refused")
    log.warning("unsafe", reason="no error")
    log.warning("unsafe", reason="no error")
    log.error("refused", error="away")
    log.error("refused", error="away")
    assert [(one["event"], one.get("partition")) for one in log_lines()] == [
        *(("feed_again", 1), ("feed_again", 2)),  # of another error
        *[("unsafe", None)] * 2,
        *[("refused", None)] * 2,
    ]


def test_after_a_minute_it_is_told_how_many_were_held_back():
    at = [100.0]
    repeats = logging.Repeats(lambda: at[0])
    assert repeats(None, "warning", {"event": "e", "error": "away"}) == {"event": "e", "error": "away"}
    for at[0] in (101.0, 159.0):
        with pytest.raises(structlog.DropEvent):
            repeats(None, "warning", {"event": "e", "error": "away"})
    at[0] = 160.0
    assert repeats(None, "warning", {"event": "e", "error": "away"})["held_back"] == 2
    at[0] = 300.0
    assert "held_back" not in repeats(None, "warning", {"event": "e", "error": "away"})


@given(st.text(max_size=60))
def test_a_child_trace_context_is_always_well_formed(parent):
    child = telemetry.child_traceparent(parent)
    assert telemetry.child_traceparent(child)[3:35] == child[3:35]


def test_trace_context_is_carried_and_put_back():
    parent = telemetry.new_traceparent()
    with telemetry.span("outer", parent) as outer:
        assert telemetry.trace_id(outer) == telemetry.trace_id(parent)
        assert outer != parent
        with telemetry.span("inner") as inner:
            assert telemetry.trace_id(inner) == telemetry.trace_id(parent)
        assert telemetry.current_traceparent() == outer
    assert telemetry.current_traceparent() == ""


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_that_utc_has_not_is_refused_like_any_other_that_is_none(moment):
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Time).validate_python(moment)
    assert [one["type"] for one in refused.value.errors()] == ["datetime_parsing"]


def test_a_validator_may_bring_both_languages():
    error = {"type": "mine", "loc": ("body", "a/b", 0), "msg": "x", "ctx": {"es": "Mal.", "en": "Bad."}}
    [field] = from_validation([error]).errors
    assert (field.pointer, field.es, field.en) == ("/a~1b/0", "Mal.", "Bad.")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A service's migrations, as a package."""
    name = f"migrated_{new_id()[-8:]}"
    versions = tmp_path / name / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "env.py").write_text("from relevo.chassis.migrations import run\n\nrun()\n")
    (versions / "0001_first.py").write_text(
        textwrap.dedent("""
        from alembic import op
        from relevo.chassis.migrations import create_chassis_tables, create_erasure_tables
        revision = "0001"
        down_revision = None
        def upgrade():
            create_chassis_tables(op)
            create_erasure_tables(op)
            op.execute("create table mine (id uuid primary key)")
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return name


def test_a_second_replica_waits_for_the_one_that_migrates(servers, package):
    dsn = servers.create_database()
    code = f"from relevo.chassis.migrations import migrate; migrate({dsn!r}, {package!r})"
    waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
    with psycopg.connect(dsn, autocommit=True) as first:
        first.execute("select pg_advisory_lock(%s)", (_LOCK,))
        second = subprocess.Popen([sys.executable, "-W", "error", "-c", code])
        while first.execute(waits).fetchone() is None:
            assert second.poll() is None
        assert first.execute("select to_regclass('mine')").fetchone() == (None,)
    assert second.wait(60) == 0
    migrate(dsn, package)
    with psycopg.connect(dsn) as connection:
        tables = {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}
    assert {"mine", "outbox", "position", "dead_letters", "directory", "idempotency", "timers"} <= tables


@pytest.mark.anyio
async def test_a_time_out_tells_whose_answer_did_not_come(servers):
    db = Database(Pool(servers.create_database(), service="test", size=1, lease_seconds=4), "test")

    async def slow():
        async with db.begin() as tx:
            await tx.conn.execute("select pg_sleep(5)")

    async def no_connection_is_free():
        async with db.begin():
            await asyncio.wait_for(slow(), 0.2)

    async def told(waiting):
        with pytest.raises(TimeoutError) as late:
            await asyncio.wait_for(waiting, 0.5)
        return described(late.value)

    try:
        assert await told(slow()) == "TimeoutError: no answer in time from the database"
        assert await told(no_connection_is_free()) == "TimeoutError: no answer in time from the database"
    finally:
        await db.close()
    assert await told(asyncio.sleep(5)) == "TimeoutError: no answer in time"


async def test_an_older_state_never_replaces_a_newer(servers):
    dsn = servers.create_database()
    with psycopg.connect(dsn) as connection:
        for ddl in directory.DDL_V1:
            connection.execute(ddl)
    db = Database(Pool(dsn, service="test", size=2, lease_seconds=4), "test")
    account, team = new_id(), new_id()

    def state(name: str) -> TeamState:
        return TeamState(id=team, account_id=account, name=name)

    try:
        async with db.begin() as tx:
            entries = [directory.Entry("team", account, team, state(n), s) for n, s in (("a", 1), ("c", 3), ("b", 2))]
            await directory.apply_all(tx, entries)
            await directory.apply(tx, "team", account, team, state("old"), 2)
            assert [found.name for found in await directory.teams(tx, account)] == ["c"]
            assert await directory.teams(tx, new_id()) == []
            await directory.apply(tx, "team", account, team, state("c"), 4, deleted=True)
            await directory.apply(tx, "team", account, team, state("late"), 3)
            assert await directory.teams(tx, account) == []
            inbox = InboxState(id="i1", account_id=account, name="Web", channel="webchat")
            await directory.apply(tx, "inbox", account, "i1", inbox, 1)
            await directory.apply(tx, "account", account, account, AccountState(id=account, name="Acme"), 1)
            assert await directory.inboxes(tx, ["i1", "i2"]) == {"i1": inbox}
            assert (await directory.accounts(tx, [account]))[account].name == "Acme"
    finally:
        await db.close()


def test_the_watchdog_ends_a_process_whose_loop_stands_still():
    ended = threading.Event()

    async def block() -> None:
        watchdog = LoopWatchdog(1.0, ended.set)
        watchdog.start()
        await asyncio.sleep(1.5)
        assert not ended.is_set()
        time.sleep(3)  # noqa: ASYNC251 — the very thing it is for
        watchdog.stop()

    asyncio.run(block())
    assert ended.is_set()


def test_a_stalled_process_exits_70_with_its_stacks():
    code = (
        "import asyncio, time\nfrom relevo.chassis.health import LoopWatchdog\n"
        "async def main():\n LoopWatchdog(0.4).start()\n time.sleep(30)\nasyncio.run(main())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert found.returncode == 70
    assert b"most recent call first" in found.stderr
