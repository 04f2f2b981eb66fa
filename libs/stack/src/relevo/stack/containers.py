"""What containers are given before they start: the same keys, roles, configurations and streams as `relevo up` makes.

`prepare` writes files only, so that PostgreSQL, NATS and the edge can start; `setup` then makes databases, streams and
tables. Both may be run again at any time: what is there already stays.

The folder that `prepare` fills has one folder per container, each a volume of its own: a container sees what is its
own and no more. The home, with every key, is seen by `prepare` and `setup` alone.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from relevo.contracts.routes import ROUTES
from relevo.stack import databases, edge, nats, postgres, room, topology, wiring
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home
from relevo.stack.migrations import Migration, migrate
from relevo.stack.process import tail

SERVICE_PORT = 8080
MOUNTED = Path("/run/secrets/relevo")
"""Where a service's container finds its folder (its RELEVO_SECRETS)."""
NATS_STORE = Path("/data")
NATS_DATA = "nats-data"
"""The folder of the broker's store among the prepared ones: what is free there is what the streams can have."""
EDGE_FILES = Path("/etc/relevo")
_PATIENCE_SECONDS = 120.0

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers answer inside the containers' network, and the bytes that PostgreSQL's container may take."""

    postgres: str = "postgres:5432"
    nats_url: str = "nats://nats:4222"
    nats_monitoring_url: str = "http://nats:8222"
    postgres_memory: int = 2 * 1024**3

    def dsn(self, database: str, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@{self.postgres}/{database}"


def prepare(home: Home, into: Path, servers: Servers, services: Sequence[str]) -> None:
    """Make secrets where none are yet, and write every container's files. Raises StackError where a folder is missing."""
    home.prepare()
    keys = home.bus_keys()
    files = wiring.write_bus_files(home, keys, services)
    for service in services:
        folder = into / service
        role = databases.name_of(service)
        _write(folder, "bus.creds", files.services[service].read_text())
        if service == "identity":
            _write(folder, "system.creds", files.revocation.read_text())
        told = {
            "RELEVO_DATABASE_URL": servers.dsn(role, role, home.secret(f"postgres-{service}")),
            "RELEVO_NATS_CREDENTIALS": str(MOUNTED / "bus.creds"),
            **wiring.own_secrets(service, home, revocation=MOUNTED / "system.creds"),
        }
        for name, value in told.items():
            _write(folder, name, value)
    _write(
        into / "nats",
        "nats.conf",
        nats.configuration(keys, listen="0.0.0.0:4222", monitoring="0.0.0.0:8222", store=NATS_STORE),
    )
    _write(into / "postgres", "password", home.secret("postgres-admin"))
    settings = {"listen_addresses": "*", "unix_socket_directories": "/var/run/postgresql"}
    caches = postgres.caches(servers.postgres_memory)
    _write(into / "postgres", "postgresql.conf", postgres.configuration({**caches, **settings}))
    pools = {service: edge.named(service, SERVICE_PORT) for service in services}
    told_edge = edge.configuration(
        ROUTES, pools, listen=f":{SERVICE_PORT}", docs=EDGE_FILES, storage=Path(tempfile.gettempdir()) / "caddy"
    )
    _write(into / "edge", "caddy.json", edge.text(told_edge))
    (into / "edge" / "docs").mkdir(mode=0o750, exist_ok=True)
    for name, text in edge.pages().items():
        _write(into / "edge" / "docs", name, text)


def setup(home: Home, prepared: Path, servers: Servers, services: Sequence[str], report: Report) -> None:
    """Roles and databases, streams and durables, migrations. Raises StackError naming what failed."""
    password = home.secret("postgres-admin")

    def dsn(database: str) -> str:
        return servers.dsn(database, postgres.SUPERUSER, password)

    with _step(report, "PostgreSQL answers"):
        _wait(lambda: psycopg.connect(dsn("postgres"), connect_timeout=5).close(), psycopg.OperationalError)
    with _step(report, f"{len(services)} roles and databases"):
        databases.provision(dsn, {service: home.secret(f"postgres-{service}") for service in services})
    with _step(report, "NATS answers"):
        health = f"{servers.nats_monitoring_url}/healthz"
        _wait(lambda: httpx.get(health, timeout=5, trust_env=False).raise_for_status(), httpx.HTTPError)
    with _step(report, "streams"):
        topology.apply(servers.nats_url, home.secrets / "topology.creds", room=room.for_streams(prepared / NATS_DATA))
    with _step(report, f"migrations of {len(services)} databases"):
        _migrate(prepared, services)


def _migrate(prepared: Path, services: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = {
            service: Migration(
                {**os.environ, "RELEVO_SECRETS": str(prepared / service)}, Path(folder) / f"{service}.log"
            )
            for service in services
        }
        failed = {service: code for service, code in migrate(work).items() if code != 0}
        if failed:
            reasons = "\n".join(f"{name} (exit code {code}):\n{tail(work[name].log)}" for name, code in failed.items())
            raise StackError(f"migrations failed: {reasons}", code=Exit.FAILED)


def _write(folder: Path, name: str, text: str) -> None:
    """Write a file whole or not at all, for the owner and, where the folder's group is another's, for that group."""
    if not folder.is_dir():
        raise StackError(f"{folder} is missing", "Mount a volume there, one for each container")
    group = folder.stat().st_gid
    unfinished = folder / f".{name}.new"
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    if group != os.getegid():
        os.chown(unfinished, -1, group)
        unfinished.chmod(0o640)
    unfinished.write_text(text)
    unfinished.replace(folder / name)


def _wait(look: Callable[[], object], *again: type[Exception]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            look()
        except again as error:
            if time.monotonic() > deadline:
                raise StackError(f"no answer in {_PATIENCE_SECONDS:.0f} s: {error}", code=Exit.NOT_READY) from error
            time.sleep(0.2)
        else:
            return


@contextmanager
def _step(report: Report, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    report(f"{what} ({time.monotonic() - began:.1f} s)")


def from_environment(environment: Mapping[str, str]) -> Servers:
    """Servers as RELEVO_POSTGRES (host:port), RELEVO_NATS_URL, RELEVO_NATS_MONITOR_URL and RELEVO_POSTGRES_MEMORY say, else
    by their names. Raises StackError when the memory is no size.
    """
    plain = Servers()
    memory = environment.get("RELEVO_POSTGRES_MEMORY")
    try:
        postgres_memory = room.size(memory) if memory else plain.postgres_memory
    except ValueError as error:
        raise StackError(f"RELEVO_POSTGRES_MEMORY: {error}", "Write a size such as 4g") from None
    return Servers(
        environment.get("RELEVO_POSTGRES") or plain.postgres,
        environment.get("RELEVO_NATS_URL") or plain.nats_url,
        environment.get("RELEVO_NATS_MONITOR_URL") or plain.nats_monitoring_url,
        postgres_memory,
    )
