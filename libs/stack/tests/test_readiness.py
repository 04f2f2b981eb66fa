"""What `relevo status` says of a service that is not ready, and of a stream that is filling."""

import json
from datetime import UTC, datetime, timedelta

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from relevo.stack import readiness, room
from relevo.stack.cli import app
from relevo.stack.errors import StackError
from relevo.stack.readiness import Growth, StreamFill
from relevo.stack.testing import TestServers, run_apart

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
GIB = 1024**3


def test_partitions_of_one_stream_are_counted_and_other_things_are_said_one_by_one():
    gone = "position 12 lies beyond the stream's end"
    assert readiness.told({}) == ""
    assert (
        readiness.told({"database": "not reachable (OperationalError)"}) == "database: not reachable (OperationalError)"
    )
    assert (
        readiness.told({"EVT_INGEST/3": gone, "broker": "not connected", "EVT_INGEST/0": gone})
        == f"EVT_INGEST/3 and 1 more: {gone}; broker: not connected"
    )


def test_what_everybody_lacks_is_said_once_and_servers_come_first():
    servers = [{"name": "postgres", "ready": False, "missing": ""}, {"name": "nats", "ready": True, "missing": ""}]
    services = [
        {"name": "identity", "missing": "database: not reachable (OperationalError)"},
        {"name": "ingest", "missing": ""},
        {"name": "channels", "missing": "database: not reachable (AdminShutdown)"},
        {"name": "realtime", "missing": "EVT_INGEST is full"},
    ]
    assert readiness.unready(servers, services) == [
        "postgres is not ready: it is started again by itself; see `relevo logs postgres`",
        "identity and channels are not ready: database: not reachable (OperationalError)",
        "realtime is not ready: EVT_INGEST is full",
    ]
    assert readiness.unready(servers[1:], services[1:2]) == []


def test_a_server_that_hangs_is_told_from_one_that_fell():
    (line,) = readiness.unready([{"name": "nats", "pid": 7, "ready": False, "missing": "ReadTimeout"}], [])
    assert line.startswith("nats runs (process 7) and does not answer (ReadTimeout): what needs it waits")


def test_a_status_that_was_written_long_ago_says_so():
    assert readiness.outdated(NOW.isoformat(), NOW + timedelta(seconds=14)) is None
    told = readiness.outdated(NOW.isoformat(), NOW + timedelta(seconds=40))
    assert told is not None
    assert told.startswith("this is how it was 40 s ago")


def test_a_filling_stream_is_told_with_when_it_is_full_and_what_to_do():
    assert StreamFill("EVT_X", 79, 100, 5.0).line(NOW) is None
    assert StreamFill("EVT_X", 10**12, -1, 5.0).line(NOW) is None, "a stream without a limit"
    assert StreamFill("EVT_CONVERSATION", 9 * GIB, 10 * GIB, GIB / 3600).line(NOW) == (
        "EVT_CONVERSATION is 90 % full (9 GiB of 10 GiB), full by 2026-11-22 11:00 UTC at the present rate: "
        "`relevo topology limits EVT_CONVERSATION=20GiB`, or let it keep less with `EVT_CONVERSATION=/3d`"
    )
    quiet = StreamFill("EVT_CONVERSATION", 9 * GIB, 10 * GIB, 0.0).line(NOW)
    assert quiet is not None
    assert "full by" not in quiet
    full = StreamFill("INBOUND", 1024**3, GIB, None).line(NOW)
    assert full is not None
    assert "INBOUND is full" in full
    assert "`relevo topology limits INBOUND=2GiB`" in full


def test_growth_is_what_was_added_since_the_first_look_of_the_last_hour():
    growth = Growth()
    assert growth.add(0, [StreamFill("A", 100, 1000)]) == [StreamFill("A", 100, 1000)], "one look tells no rate"
    assert growth.add(10, [StreamFill("A", 900, 1000)])[0].per_second is None, "too soon to tell"
    (seen, new) = growth.add(100, [StreamFill("A", 200, 1000), StreamFill("B", 5, 10)])
    assert (seen.per_second, new.per_second) == (1.0, None)
    for seconds in range(130, 7300, 30):
        (seen, _) = growth.add(seconds, [StreamFill("A", 200, 1000), StreamFill("B", 5, 10)])
    assert seen.per_second == 0.0, "more than an hour ago counts no more"


@given(st.integers(1, 2**50), st.floats(0.01, 1), st.floats(0.001, 1e9))
def test_a_stream_is_full_when_it_is_said_to_be(limit, part, per_second):
    fill = StreamFill("S", min(int(limit * part), limit - 1), limit, per_second)
    at = fill.full_at(NOW)
    if at is not None:
        assert fill.held + (at - NOW).total_seconds() * per_second == pytest.approx(limit, rel=1e-3, abs=per_second)


def test_sizes_and_ages_are_read_as_people_write_them():
    assert [room.size(text) for text in ("20GiB", "20G", "1.5 MiB", "512", "2t")] == [
        20 * GIB,
        20 * GIB,
        3 * 512 * 1024,
        512,
        2 * 1024 * GIB,
    ]
    assert (room.age("3d"), room.age("36h")) == (timedelta(days=3), timedelta(hours=36))
    for text in ("", "lots", "-1GiB", "1 parsec", "GiB"):
        with pytest.raises(ValueError, match="is no size"):
            room.size(text)


@given(st.integers(1024**2, 2**50))
def test_a_size_that_is_shown_can_be_given(count):
    assert room.size(room.shown(count)) == pytest.approx(count, rel=0.01)


def test_new_streams_share_what_the_disk_has(tmp_path, monkeypatch):
    monkeypatch.delenv(room.VARIABLE, raising=False)
    assert GIB <= room.for_streams(tmp_path) <= 512 * GIB
    monkeypatch.setenv(room.VARIABLE, "1.5GiB")
    assert room.for_streams(tmp_path) == 3 * GIB // 2
    for text, reason in (("much", "RELEVO_STREAMS_ROOM: 'much' is no size"), ("900TiB", "free where the streams lie")):
        monkeypatch.setenv(room.VARIABLE, text)
        with pytest.raises(StackError, match=reason):
            room.for_streams(tmp_path)


def test_a_real_broker_tells_how_full_its_streams_are_and_the_command_changes_it(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
):
    bus = servers.bus
    target = ["--nats-url", bus.nats_url, "--credentials", str(bus.admin_creds)]
    monkeypatch.setenv(room.VARIABLE, "6.4GiB")

    def relevo(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["topology", *arguments, *target], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    relevo("apply")
    assert servers.nats is not None
    before = {fill.name: fill for fill in servers.nats.fills()}
    # A part of the room each, but never less than 64 MiB.
    assert round(before["EVT_CONVERSATION"].limit / GIB, 2) == 1.92
    assert before["CMD_PRESENCE"].limit == int(6.4 * GIB) // 100

    async def publish() -> None:
        client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds))
        for _ in range(68):
            await client.jetstream().publish("dead.x.acc1.rejected", b"x" * 1_000_000)
        await client.close()

    run_apart(publish)
    (line,) = filter(None, (fill.line(NOW) for fill in servers.nats.fills()))
    assert line.startswith("DEAD is 99 % full (64.85 MiB of 65.54 MiB): `relevo topology limits DEAD=")
    held = next(fill.held for fill in servers.nats.fills() if fill.name == "DEAD")

    assert "DEAD" in relevo("limits")
    relevo("limits", "DEAD=100MiB/7d", "EVT_CONVERSATION=3GiB")
    shown = {fill["name"]: fill for fill in json.loads(relevo("limits", "--json"))}
    assert shown["DEAD"] == {"name": "DEAD", "held": held, "limit": 100 * 1024**2, "age": 7 * 86400.0}
    assert shown["EVT_CONVERSATION"]["limit"] == 3 * GIB
    for change in ("DEAD=64MiB", "DEAD=/31d", "NONE=1GiB", "DEAD=big"):
        with pytest.raises(StackError):
            CliRunner().invoke(app, ["topology", "limits", change, *target], catch_exceptions=False)
    assert "nothing" not in relevo("plan"), "what an operator chose is no difference"
    assert "the broker is as the catalogue says" in relevo("plan")
