"""The whole stack as an operator meets it: a process started in a home, watched from outside."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from relevo.stack.process import free_port

FAKES = Path(__file__).parent / "fakes"


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


class Machine:
    """A home with ports of its own, in which `relevo` runs with one small service."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "RELEVO_HOME": str(home),
            "RELEVO_PORT": str(free_port()),
            "RELEVO_NATS_PORT": str(free_port()),
            "RELEVO_PG_PORT": str(free_port()),
            "RELEVO_SERVICES": "fake",
            "PYTHONPATH": os.pathsep.join([str(FAKES), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "COLUMNS": "200",
        }
        self.supervisors: list[subprocess.Popen[str]] = []

    def relevo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "relevo.stack", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def up(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "relevo.stack", "up", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.supervisors.append(process)
        ready = ("ready", process.pid)
        until(lambda: process.poll() is not None or (self.status().get("phase"), self.status().get("pid")) == ready, 60)
        assert process.poll() is None, process.communicate()[0]
        return process

    def status(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.home / "run" / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return document

    def journal(self) -> list[str]:
        return (self.home / "files" / "fake" / "journal").read_text().splitlines()

    def pids(self) -> list[int]:
        status = self.status()
        return [item["pid"] for item in (*status["servers"], *status["services"])]

    def close(self) -> None:
        for process in self.supervisors:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(reachable_folder(tmp_path_factory))
    yield machine
    machine.close()


def reachable_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the servers' user may traverse, so that root's servers keep their data in the home."""
    folder = tmp_path_factory.mktemp("stack")
    for closed in (folder, folder.parent, folder.parent.parent):
        closed.chmod(closed.stat().st_mode | 0o011)
    return folder / "home"


def gone(pids: list[int]) -> bool:
    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    return not any(running(pid) for pid in pids)


def test_it_starts_is_watched_restarts_what_falls_and_drains(machine: Machine) -> None:
    process = machine.up("--scale", "fake=2")
    status = machine.status()
    assert [item["name"] for item in status["servers"]] == ["postgres", "nats", "edge"]
    assert [item["name"] for item in status["services"]] == ["fake", "fake-2"]
    assert all(item["ready"] for item in (*status["servers"], *status["services"]))
    assert machine.relevo("status").returncode == 0
    assert json.loads(machine.relevo("status", "--json").stdout)["pid"] == process.pid
    assert httpx.get(f"{status['url']}/", trust_env=False).status_code == 200

    first = status["services"][0]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{first['port']}/crash", trust_env=False)
    again = until(lambda: next((s for s in machine.status()["services"] if s["restarts"] == 1 and s["ready"]), None))
    assert again["name"] == "fake"
    assert again["pid"] != first["pid"]

    pids = machine.pids()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert gone(pids)
    assert machine.journal() == ["migrated", "drained", "drained"]
    assert machine.relevo("status").returncode == 3
    assert machine.relevo("down").returncode == 3


def test_a_server_that_hangs_is_said_within_seconds(machine: Machine) -> None:
    machine.up()
    (postgres,) = (one["pid"] for one in machine.status()["servers"] if one["name"] == "postgres")
    backends = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()

    def signal_all(number: signal.Signals) -> None:
        for pid in (postgres, *map(int, backends)):
            with suppress(ProcessLookupError):  # a backend may end just before, and is reaped once PostgreSQL goes on
                os.kill(pid, number)

    signal_all(signal.SIGSTOP)
    try:
        shown = until(lambda: (answer := machine.relevo("status")).returncode == 4 and answer, 20)
        assert f"postgres runs (process {postgres}) and does not answer" in shown.stdout
    finally:
        signal_all(signal.SIGCONT)
    until(lambda: machine.relevo("status").returncode == 0)


def test_a_server_that_does_not_start_again_is_tried_until_it_does(machine: Machine) -> None:
    supervisor = machine.up()
    (postgres,) = (one["pid"] for one in machine.status()["servers"] if one["name"] == "postgres")
    needed = machine.home / "servers" / "postgres" / "global" / "pg_control"
    away = needed.with_name("away")
    needed.rename(away)
    os.kill(postgres, signal.SIGKILL)
    until(lambda: "pg_control" in (machine.home / "logs" / "postgres.log").read_text(), 30)
    tried = machine.status()["written"]
    until(lambda: supervisor.poll() is not None or machine.status()["written"] != tried, 30)
    assert supervisor.poll() is None
    away.rename(needed)
    until(lambda: machine.relevo("status").returncode == 0, 60)


def test_the_status_stays_fresh_while_a_service_hangs(machine: Machine) -> None:
    machine.up()
    (fake,) = machine.status()["services"]
    os.kill(fake["pid"], signal.SIGSTOP)
    try:
        until(lambda: not machine.status()["services"][0]["ready"], 20)
        # Twenty seconds and more lay between one that is written and the next.
        for _ in range(2):
            before = machine.status()["written"]
            until(lambda before=before: machine.status()["written"] != before, 12)
        assert "does not answer" in machine.relevo("status").stdout
    finally:
        os.kill(fake["pid"], signal.SIGCONT)
    until(lambda: machine.relevo("status").returncode == 0)


def test_the_status_never_says_of_a_service_that_has_just_ended_that_it_is_ready(machine: Machine) -> None:
    machine.up()
    # Stopped, the supervisor does not see it: what it wrote last says ready.
    machine.supervisors[0].send_signal(signal.SIGSTOP)
    try:
        (fake,) = machine.status()["services"]
        os.kill(fake["pid"], signal.SIGKILL)
        until(lambda: machine.relevo("status").returncode != 0, 20)
        assert "fake is not ready: its process has just ended, and is started again by itself" in machine.relevo(
            "status"
        ).stdout.replace("\n", " ")
    finally:
        machine.supervisors[0].send_signal(signal.SIGCONT)
    until(lambda: machine.relevo("status").returncode == 0)


def test_a_second_start_keeps_state_and_does_not_migrate_again(machine: Machine) -> None:
    machine.up()
    dsn = f"postgresql://relevo_fake:{(machine.home / 'secrets' / 'postgres-fake').read_text()}@127.0.0.1:{machine.environment['RELEVO_PG_PORT']}/relevo_fake"
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    ports = [item["port"] for item in machine.status()["services"]]
    assert machine.relevo("down").returncode == 0
    assert machine.supervisors[0].wait(30) == 0
    machine.up()
    assert machine.journal().count("migrated") == 1
    assert [item["port"] for item in machine.status()["services"]] == ports
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_second_start_in_the_same_home_is_refused_in_one_line(machine: Machine) -> None:
    process = machine.up()
    for arguments in (("up",), ("up", "--detach")):
        second = machine.relevo(*arguments)
        assert second.returncode == 2
        (line,) = [text for text in second.stderr.splitlines() if text]
        assert f"runs already in {machine.home} (process {process.pid})" in line
        assert "relevo down" in line
    assert process.poll() is None
    assert machine.relevo("status").returncode == 0


@pytest.mark.parametrize("variable", ["RELEVO_PORT", "RELEVO_NATS_PORT", "RELEVO_PG_PORT"])
def test_a_taken_port_is_said_in_one_line_and_nothing_is_left_running(machine: Machine, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(machine.environment[variable])))
        taken.listen()
        done = machine.relevo("up")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"port {machine.environment[variable]}" in line
    assert variable in line
    assert not (machine.home / "servers" / "postgres").exists()


def test_a_nearly_full_disk_is_said_in_one_line(machine: Machine) -> None:
    machine.environment["PYTHONPATH"] += os.pathsep + str(FAKES / "full_disk")
    done = machine.relevo("up")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "MB free" in line
    assert "RELEVO_HOME" in line


def test_two_stacks_run_side_by_side(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    machine.up()
    other = Machine(reachable_folder(tmp_path_factory))
    try:
        other.up()
        assert other.relevo("status").returncode == machine.relevo("status").returncode == 0
        assert not set(other.pids()) & set(machine.pids())
    finally:
        other.close()
    assert machine.relevo("status").returncode == 0


def test_children_die_with_a_killed_supervisor_and_the_next_start_works(machine: Machine) -> None:
    process = machine.up()
    pids = machine.pids()
    process.kill()
    process.wait()
    until(lambda: gone(pids))
    machine.up()
    assert machine.relevo("status").returncode == 0


def test_secrets_are_closed_to_others_and_made_once(machine: Machine) -> None:
    machine.up()
    folder = machine.home / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(machine.home.stat().st_mode) & 0o066 == 0
    files = sorted(folder.iterdir())
    assert {"bus-keys.json", "fake.creds", "topology.creds", "postgres-admin", "postgres-fake"} <= {
        f.name for f in files
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    for log in (machine.home / "logs").glob("*.log"):
        text = log.read_text()
        for secret in ("postgres-admin", "postgres-fake"):
            assert (folder / secret).read_text() not in text
    before = {file.name: file.read_text() for file in files if file.name == "bus-keys.json" or file.suffix == ""}
    machine.relevo("down")
    machine.up()
    assert {name: (folder / name).read_text() for name in before} == before


def test_each_service_reaches_its_own_database_only(machine: Machine) -> None:
    machine.up()
    port = machine.environment["RELEVO_PG_PORT"]
    password = (machine.home / "secrets" / "postgres-fake").read_text()
    own = f"postgresql://relevo_fake:{password}@127.0.0.1:{port}/"
    with psycopg.connect(own + "relevo_fake") as connection:
        connection.execute("CREATE TABLE mine (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE ROLE another")
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(own + database)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://relevo_fake:wrong@127.0.0.1:{port}/relevo_fake")


def test_wrong_arguments_are_refused_with_the_mend(machine: Machine) -> None:
    done = machine.relevo("up", "--scale", "nothing=2")
    assert (done.returncode, "SERVICE=N" in done.stderr) == (2, True)
    done = machine.relevo("logs", "nothing")
    assert (done.returncode, "there is no log" in done.stderr) == (2, True)
    machine.environment["RELEVO_PORT"] = "many"
    done = machine.relevo("up")
    assert (done.returncode, "RELEVO_PORT=many" in done.stderr) == (2, True)


def test_detached_it_returns_when_ready_and_shows_logs_and_databases(machine: Machine) -> None:
    done = machine.relevo("up", "--detach")
    assert done.returncode == 0, done.stderr
    try:
        assert "Relevo is ready: http://127.0.0.1:" in done.stdout
        assert machine.relevo("status").returncode == 0
        planned = machine.relevo("topology", "plan")
        assert planned.stdout.strip() == "the broker is as the catalogue says", planned.stderr
        assert "ready to accept connections" in machine.relevo("logs", "postgres").stdout
        answer = machine.relevo("psql", "fake", "--", "-Atc", "select current_user")
        assert answer.stdout.strip() == "relevo_fake", answer.stderr
    finally:
        assert machine.relevo("down").returncode == 0
