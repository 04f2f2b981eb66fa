"""The stack that is measured: one of our own in a temporary home, or the one that runs already."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from relevo.stack import databases
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home
from relevo.stack.postgres import PostgresServer
from relevo.stack.process import free_port, running_pid, spawn, tail, wait_for

_READY_SECONDS = 180.0
_STOP_SECONDS = 90.0


@dataclass(slots=True)
class Place:
    """A ready stack, seen from its home."""

    home: Home
    status: dict[str, Any] = field(repr=False)

    @property
    def edge_url(self) -> str:
        return str(self.status["url"])

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self._server('nats')['port']}"

    @property
    def monitoring_url(self) -> str:
        return f"http://127.0.0.1:{self.home.state()['ports']['nats-monitoring']}"

    @property
    def pids(self) -> dict[str, int]:
        """Every process of the stack, servers first."""
        return {x["name"]: x["pid"] for x in (*self.status["servers"], *self.status["services"]) if x["pid"]}

    @property
    def ports(self) -> list[int]:
        """Where the services' own metrics are read."""
        return [item["port"] for item in self.status["services"]]

    @property
    def services(self) -> list[str]:
        """The services that run, each once."""
        return list(dict.fromkeys(item["service"] for item in self.status["services"]))

    def superuser_dsn(self, database: str = "postgres") -> str:
        """PostgreSQL's superuser in that database."""
        return self._postgres().dsn(database)

    def dsn_of(self) -> dict[str, str]:
        """Every service's database, and the cluster's own as ""."""
        return {
            "": self.superuser_dsn(),
            **{service: self.superuser_dsn(databases.name_of(service)) for service in self.services},
        }

    def service_dsns(self) -> list[str]:
        """Every service's database, as the service itself opens it."""
        server = self._postgres()
        return [
            server.dsn(databases.name_of(name), databases.name_of(name), self.home.secret(f"postgres-{name}"))
            for name in self.services
        ]

    def restarts(self) -> int:
        """How often the supervisor had to start a service again."""
        status = _status(self.home)
        return sum(item["restarts"] for item in status["services"]) if status else 0

    def pid_of(self, name: str) -> int:
        """The process of that name, as it runs now. Raises StackError when it does not."""
        pid = running_pid(self._pid_file(name))
        if pid is None:
            raise StackError(f"{name} does not run", f"Look at {self.home.logs / name}.log", Exit.FAILED)
        return pid

    def back(self, name: str, before: int) -> bool:
        """Whether a process of that name runs again, another than before, and is ready."""
        if running_pid(self._pid_file(name)) in (None, before):
            return False
        port = next((item["port"] for item in self.status["services"] if item["name"] == name), None)
        if port is None:
            return True
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _pid_file(self, name: str) -> Path:
        server = any(item["name"] == name for item in self.status["servers"])
        return (self.home.place.root if server else self.home.run) / f"{name}.pid"

    def _postgres(self) -> PostgresServer:
        port = int(self._server("postgres")["port"])
        return PostgresServer(
            self.home.place, port, self.home.secret("postgres-admin"), self.home.logs / "postgres.log"
        )

    def _server(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(item for item in self.status["servers"] if item["name"] == name)
        return found


def running(home: Home) -> Place:
    """The stack that runs in this home. Raises StackError when none does, or not all of it is ready."""
    status = _status(home)
    if status is None:
        raise StackError(f"nothing runs in {home.path}", "Start it with `relevo up --detach`", Exit.NOT_RUNNING)
    if status["phase"] != "ready":
        raise StackError(f"what runs in {home.path} is {status['phase']}", "Wait for `relevo status`", Exit.NOT_READY)
    return Place(home, status)


@contextmanager
def own(scale: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Iterator[Place]:
    """A stack in a temporary home on free ports, ended and removed afterwards; after an error its logs stay.

    ``environment``: what its processes are told beside what ours says.
    """
    home = Home(Path(tempfile.mkdtemp(prefix="relevo-bench-")))
    log = home.path / "supervisor.log"
    told = {
        **os.environ,
        **(environment or {}),
        "RELEVO_HOME": str(home.path),
        "RELEVO_HOST": "127.0.0.1",
        "RELEVO_PORT": str(free_port()),
        "RELEVO_NATS_PORT": str(free_port()),
        "RELEVO_PG_PORT": str(free_port()),
        "RELEVO_DEMO": "0",
    }
    replicas = [part for option in scale for part in ("--scale", option)]
    # It ends with this process, however that ends.
    child = spawn(
        "stack",
        [sys.executable, "-m", "relevo.stack", "up", "--no-demo", *replicas],
        log=log,
        pid_file=home.path / "bench.pid",
        environment=told,
    )
    servers: Path | None = None
    well = False
    try:

        def settled() -> bool:
            status = _status(home)
            return not child.alive() or (status is not None and status["phase"] == "ready")

        if not wait_for(settled, _READY_SECONDS, every=0.2) or not child.alive():
            raise StackError(f"the stack to be measured did not start:\n{tail(log)}", code=Exit.FAILED)
        servers = home.place.root
        yield running(home)
        well = True
    finally:
        child.stop(_STOP_SECONDS)
        if servers is not None:
            shutil.rmtree(servers, ignore_errors=True)
        if well:
            shutil.rmtree(home.path, ignore_errors=True)


def _status(home: Home) -> dict[str, Any] | None:
    pid = home.running_pid()
    try:
        document: dict[str, Any] = json.loads(home.status_file.read_text())
    except (OSError, ValueError):
        return None
    return document if document["pid"] == pid else None
