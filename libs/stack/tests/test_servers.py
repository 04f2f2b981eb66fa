"""The servers are configured as durability and safety ask."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest

from relevo.contracts.routes import Route
from relevo.stack import memory, postgres
from relevo.stack.edge import MAX_REQUEST_BYTES, Edge
from relevo.stack.errors import StackError
from relevo.stack.keys import BusKeys
from relevo.stack.place import Place, unprivileged
from relevo.stack.postgres import PostgresServer
from relevo.stack.process import RunAs, free_port
from relevo.stack.testing import TestServers


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("place")
    for folder in (root, root.parent, root.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    return Place(root, unprivileged())


def test_the_broker_syncs_before_it_acknowledges_and_keeps_to_loopback(servers: TestServers) -> None:
    assert servers.nats is not None
    told = servers.nats.varz()
    jetstream = told["jetstream"]
    assert isinstance(jetstream, dict)
    assert jetstream["config"]["sync_always"] is True
    assert told["host"] == "127.0.0.1"
    assert told["max_payload"] == 1_048_576
    assert servers.nats.child is not None
    config = (servers.folder / "servers" / "nats" / "nats.conf").read_text()
    assert "js_ack_fc_v2: false" in config
    assert _owner(servers.nats.child.pid) == _expected_owner()


def test_postgresql_runs_unprivileged_durable_and_on_loopback(place: Place) -> None:
    server = PostgresServer(place, free_port(), "a secret", place.root / "postgres.log")
    server.start()
    try:
        assert server.child is not None
        assert _owner(server.child.pid) == _expected_owner()
        with psycopg.connect(server.dsn()) as connection:
            shown = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
        assert (shown["fsync"], shown["synchronous_commit"], shown["full_page_writes"]) == ("on", "on", "on")
        assert (shown["listen_addresses"], shown["unix_socket_directories"]) == ("127.0.0.1", "")
        assert (shown["max_connections"], shown["jit"], shown["TimeZone"]) == ("300", "off", "UTC")
        assert shown["password_encryption"] == "scram-sha-256"
        assert (shown["shared_preload_libraries"], shown["pg_prewarm.autoprewarm"]) == ("pg_prewarm", "on")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
    finally:
        server.stop()
    assert not server.pid_file.exists()
    server.start()
    try:
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        server.stop()
    stranger = PostgresServer(place, free_port(), "another", place.root / "postgres.log")
    with pytest.raises(StackError, match="password in the home"):
        stranger.start()


def test_postgresql_s_own_memory_follows_the_machine_s() -> None:
    gib = 1024**3
    assert postgres.caches(gib) == {"shared_buffers": "256MB", "effective_cache_size": "1024MB"}
    assert postgres.caches(24 * gib) == {"shared_buffers": "6144MB", "effective_cache_size": "12288MB"}
    assert postgres.caches(512 * gib)["shared_buffers"] == "8192MB"


def test_a_control_group_s_limit_is_the_memory_there_is(tmp_path: Path) -> None:
    machine = memory.usable(())
    limit, none, absent = tmp_path / "limit", tmp_path / "none", tmp_path / "absent"
    limit.write_text(f"{64 * 1024**2}\n")
    none.write_text("max\n")
    assert memory.usable((none, absent)) == machine > 64 * 1024**2
    assert memory.usable((none, limit)) == 64 * 1024**2


class Upstream(BaseHTTPRequestHandler):
    """Answers with the path asked for; reads a body to its end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left and (chunk := self.rfile.read(min(left, 1 << 20))):
            left -= len(chunk)
        if not left:
            self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_edge_routes_the_first_match_and_bounds_requests(place: Place, upstream: int) -> None:
    edge = Edge(
        place,
        "127.0.0.1",
        free_port(),
        (Route("/conversations/*/assignment", "dead"), Route("/conversations", "live")),
        {"live": [upstream], "dead": [free_port()]},
        place.root / "edge.log",
    )
    edge.start()
    try:
        with httpx.Client(base_url=edge.url, trust_env=False, timeout=30) as client:
            page = client.get("/")
            assert page.status_code == 200
            assert "Relevo está en marcha" in page.text
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert client.get("/api/v1/nothing").json()["code"] == "no_such_route"
            assert client.get("/api/v1/conversationsx").json()["code"] == "no_such_route"
            assert client.get("/api/v1/conversations/1?a=b").text == "/api/v1/conversations/1?a=b"
            assert client.get("/api/v1/conversations").text == "/api/v1/conversations"
            assert client.get("/api/v1/conversations/1/assignment").status_code == 502
            assert client.get("/api/v1/conversations/1/assignment/2").status_code == 502
            just_fits = client.post("/api/v1/conversations", content=b"x" * MAX_REQUEST_BYTES)
            assert just_fits.status_code == 200
            too_big = client.post("/api/v1/conversations", content=b"x" * (MAX_REQUEST_BYTES + 1))
            assert too_big.status_code == 413
        assert edge.child is not None
        assert _owner(edge.child.pid) == _expected_owner()
    finally:
        edge.stop()


def test_programs_out_of_reach_are_copied_once(place: Place, tmp_path: Path) -> None:
    if place.run_as is None:
        pytest.skip("only root has another user's reach to think of")
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    program = closed / "bin" / "tool"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    closed.chmod(0o700)
    copy = place.program(program)
    assert copy != program
    assert copy.read_text() == program.read_text()
    assert place.program(program) == copy


def test_bus_keys_survive_being_written() -> None:
    keys = BusKeys.generate()
    keys.service_credentials("x", ["a"], ["b"])
    assert BusKeys.load(keys.dump()) == keys
    assert keys.operator.seed not in repr(keys)


def _owner(pid: int) -> RunAs:
    status = Path(f"/proc/{pid}").stat()
    return RunAs(status.st_uid, status.st_gid)


def _expected_owner() -> RunAs:
    return unprivileged() or RunAs(os.geteuid(), os.getegid())
