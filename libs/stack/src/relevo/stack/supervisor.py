"""Runs the whole stack: servers, migrations, every service as its own process, the edge; restarts what falls; drains.

One thread, one loop: children die with the thread that started them, so it must be the one that lives longest.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import psycopg

from relevo.contracts.routes import ROUTES
from relevo.stack import databases, readiness, wiring
from relevo.stack.edge import Edge
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home, disk_full_is_said
from relevo.stack.keys import write_secret
from relevo.stack.migrations import Migration, migrate
from relevo.stack.nats import NatsServer
from relevo.stack.postgres import PostgresServer
from relevo.stack.probes import Probes
from relevo.stack.probes import postgres as postgres_answers
from relevo.stack.process import Child, end_leftover, spawn, tail

SERVICES_GRACE_SECONDS = 20.0
_READY_SECONDS = 90.0
_TICK_SECONDS = 0.2
_ROUND_SECONDS = 2.0
_STREAMS_SECONDS = 10.0
_LOGS_SECONDS = 30.0
_LOG_LIMIT_BYTES = 20_000_000
_LOGS_KEPT = 3
_STEADY_SECONDS = 10.0  # a process that lived so long is forgiven its earlier falls: it does not fall at its start
_LONGEST_PAUSE_SECONDS = 30.0

Report = Callable[[str], None]


class StopRequested(Exception):
    """SIGINT or SIGTERM arrived."""


@dataclass(slots=True)
class Instance:
    """One replica of a service."""

    service: str
    number: int
    port: int
    environment: Mapping[str, str] = field(repr=False)
    child: Child | None = None
    ready: bool = False
    missing: str = "starting"
    restarts: int = 0
    falls: int = 0
    started: float = 0.0
    start_again_at: float | None = None

    @property
    def name(self) -> str:
        return self.service if self.number == 1 else f"{self.service}-{self.number}"

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "service": self.service,
            "pid": self.child.pid if self.child and self.child.alive() else None,
            "port": self.port,
            "ready": self.ready,
            "missing": "" if self.ready else self.missing,
            "restarts": self.restarts,
        }


@dataclass(slots=True)
class Stack:
    """The running whole. `run` blocks until it is asked to stop, then drains and returns."""

    home: Home
    scale: Mapping[str, int]
    report: Report
    services: tuple[str, ...] = field(default_factory=wiring.installed)
    prepare_bus: wiring.PrepareBus | None = None
    """Called once the broker is up."""
    after_start: Sequence[Callable[["Stack"], None]] = ()
    """Called once every process answers, in turn; the stack counts as ready after the last."""
    before_stop: list[Callable[[], None]] = field(default_factory=list)
    """Called first when the stack drains."""
    postgres: PostgresServer | None = None
    nats: NatsServer | None = None
    edge: Edge | None = None
    instances: list[Instance] = field(default_factory=list)
    phase: str = "starting"
    stopping: bool = False
    growth: readiness.Growth = field(default_factory=readiness.Growth)
    streams: list[readiness.StreamFill] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    """Servers that run and do not answer, with the reason."""
    rests: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Servers that fell and did not start again: until when they are left alone, and for how many seconds that was."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self) -> None:
        """Start, watch, drain. Raises StackError when it cannot start; whatever was started is stopped then."""
        with ExitStack() as cleanup, self._signals():
            self.home.prepare()
            cleanup.enter_context(self.home.lock())
            cleanup.enter_context(disk_full_is_said(self.home))
            cleanup.callback(self.home.status_file.unlink, missing_ok=True)
            try:
                self._start()
                for step in self.after_start:
                    step(self)
                self.phase = "ready"
                self._write_status()
                self._watch()
            except StopRequested:
                pass
            finally:
                self._drain()

    # -- start --------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        home = self.home
        services = self.services
        for service, count in self.scale.items():
            if service not in services:
                raise StackError(
                    f"--scale {service}={count}: there is no service {service}", f"Choose among {', '.join(services)}"
                )
        home.check_disk()
        for leftover in (*home.run.glob("*.pid"), *home.place.root.glob("*.pid")):
            end_leftover(leftover)
        host = os.environ.get("RELEVO_HOST") or "127.0.0.1"
        ports = {name: home.public_port(name) for name in ("edge", "nats", "postgres")}
        if len(set(ports.values())) < len(ports):
            raise StackError("RELEVO_PORT, RELEVO_NATS_PORT and RELEVO_PG_PORT must differ", "Choose three free ports")
        names = [f"{service}-{number}" for service in services for number in range(1, self.scale.get(service, 1) + 1)]
        private = home.private_ports(["nats-monitoring", *names])
        self._write_status()

        keys = home.bus_keys()
        files = wiring.write_bus_files(home, keys, services)
        self.postgres = PostgresServer(
            home.place, ports["postgres"], home.secret("postgres-admin"), home.logs / "postgres.log"
        )
        self.nats = NatsServer(
            home.place,
            ports["nats"],
            private["nats-monitoring"],
            keys,
            home.logs / "nats.log",
        )
        with self._step(f"PostgreSQL on 127.0.0.1:{ports['postgres']}"):
            self.postgres.start()
        with self._step(f"NATS JetStream on 127.0.0.1:{ports['nats']}"):
            self.nats.start()
        passwords = {service: home.secret(f"postgres-{service}") for service in services}
        databases.provision(self.postgres.dsn, passwords)
        if self.prepare_bus is not None:
            with self._step("streams"):
                self.prepare_bus(self.nats.url, files.topology)

        upstreams: dict[str, list[int]] = {}
        for name in names:
            service, _, number = name.rpartition("-")
            upstreams.setdefault(service, []).append(private[name])
            told = wiring.environment(
                service,
                home,
                database_url=self.postgres.dsn(
                    databases.name_of(service), databases.name_of(service), passwords[service]
                ),
                nats_url=self.nats.url,
                nats_monitor_url=self.nats.monitoring_url,
                files=files,
                http_port=private[name],
                public_url=os.environ.get("RELEVO_PUBLIC_URL") or f"http://{host}:{ports['edge']}",
            )
            self.instances.append(
                Instance(service, int(number), private[name], {"RELEVO_LOG_FORMAT": "json", **os.environ, **told})
            )
        self._migrate()
        with self._step(f"{len(self.instances)} service processes"):
            for instance in self.instances:
                self._launch(instance)
            self._wait_ready()
        self.edge = Edge(home.place, host, ports["edge"], ROUTES, upstreams, home.logs / "edge.log")
        with self._step(f"edge on {self.edge.url}"):
            self.edge.start()

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.report(f"{what} ({time.monotonic() - began:.1f} s)")

    def _migrate(self) -> None:
        """Bring every database up to this version's migrations; those that are there already cost nothing."""
        done: dict[str, str] = self.home.state().get("migrated", {})
        due = {
            instance.service: instance
            for instance in self.instances
            if instance.number == 1 and done.get(instance.service) != self._fingerprint(instance.service)
        }
        if not due:
            return

        work = {
            service: Migration(instance.environment, self.home.logs / f"migrate-{service}.log")
            for service, instance in due.items()
        }
        with self._step(f"migrations of {len(due)} databases"):
            results = migrate(work)
        done |= {service: self._fingerprint(service) for service, code in results.items() if code == 0}
        self.home.remember(migrated=done)
        for service, code in results.items():
            if code != 0:
                log = self.home.logs / f"migrate-{service}.log"
                raise StackError(
                    f"the migration of {service} failed (exit code {code}):\n{tail(log)}", code=Exit.FAILED
                )

    def _fingerprint(self, service: str) -> str:
        """What the database holds: the cluster (a new one starts empty) and the migrations run in it."""
        assert self.postgres is not None
        with psycopg.connect(self.postgres.dsn()) as connection:
            row = connection.execute(
                "SELECT system_identifier::text || '/' || (SELECT oid FROM pg_database WHERE datname = %s)"
                " FROM pg_control_system()",
                (databases.name_of(service),),
            ).fetchone()
        assert row is not None
        return f"{row[0]}/{wiring.migrations_fingerprint(service)}"

    # -- services -----------------------------------------------------------------------------------------------------

    def _launch(self, instance: Instance) -> None:
        instance.child = spawn(
            instance.name,
            [sys.executable, "-m", f"relevo.{instance.service}", "serve"],
            log=self.home.logs / f"{instance.name}.log",
            pid_file=self.home.run / f"{instance.name}.pid",
            environment=instance.environment,
        )
        instance.ready, instance.missing = False, "starting"
        instance.started = time.monotonic()
        instance.start_again_at = None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        with Probes() as probes:
            while True:
                self._look_after(probes, everybody=False)
                waiting = [instance for instance in self.instances if not instance.ready]
                if not waiting:
                    return
                if time.monotonic() > deadline:
                    reasons = "\n".join(
                        f"{instance.name}: {instance.missing}\n{tail(self.home.logs / f'{instance.name}.log', 4)}"
                        for instance in waiting
                    )
                    raise StackError(f"not ready after {_READY_SECONDS:.0f} s:\n{reasons}", code=Exit.NOT_READY)
                self._write_status()
                time.sleep(_TICK_SECONDS)

    def _watch(self) -> None:
        """By the clock, not by passes: one service that hangs makes each pass as long as a probe's patience."""
        last: dict[str, float] = {}

        def due(what: str, seconds: float) -> bool:
            now = time.monotonic()
            if now - last.get(what, -seconds) < seconds:
                return False
            last[what] = now
            return True

        with Probes() as probes:
            while True:
                everybody = due("everybody", _ROUND_SECONDS)
                self._look_after(probes, everybody=everybody)
                if due("streams", _STREAMS_SECONDS):
                    self._watch_streams()
                if everybody:
                    self._write_status()
                    self._watch_servers()
                if due("logs", _LOGS_SECONDS):
                    rotate_logs(self.home.logs)
                time.sleep(_TICK_SECONDS)

    def _look_after(self, probes: Probes, *, everybody: bool) -> None:
        """Restart services that fell, ask the others whether they are ready (or those only that were not); servers with them."""
        now = time.monotonic()
        asked: list[Instance] = []
        for instance in self.instances:
            if instance.start_again_at is not None:
                if now >= instance.start_again_at:
                    instance.restarts += 1
                    self._launch(instance)
            elif instance.child is not None and not instance.child.alive():
                code = instance.child.process.returncode
                instance.child.pid_file.unlink(missing_ok=True)
                instance.falls = 0 if now - instance.started > _STEADY_SECONDS else instance.falls
                pause = min(0.5 * 2**instance.falls, _LONGEST_PAUSE_SECONDS)
                instance.falls += 1
                instance.ready, instance.missing = False, f"ended with {code}"
                instance.start_again_at = now + pause
                self.report(f"{instance.name} ended with {code}; starting again in {pause:.1f} s")
            elif everybody or not instance.ready:
                asked.append(instance)
        servers = self._questions_to_servers(probes) if everybody else {}
        services = [partial(probes.service, instance.port) for instance in asked]
        answers = probes.ask([*services, *servers.values()])
        for instance, missing in zip(asked, answers, strict=False):
            instance.ready, instance.missing = not missing, missing
        if everybody:
            told = zip(servers, answers[len(asked) :], strict=True)
            self.silent = {name: reason for name, reason in told if reason}

    def _questions_to_servers(self, probes: Probes) -> dict[str, Callable[[], str]]:
        """How to ask those that run."""
        found: dict[str, Callable[[], str]] = {}
        if self.postgres is not None and self.postgres.running:
            found["postgres"] = partial(postgres_answers, self.postgres.dsn())
        if self.nats is not None and self.nats.running:
            found["nats"] = partial(probes.page, f"{self.nats.monitoring_url}/healthz")
        if self.edge is not None and self.edge.running:
            found["edge"] = partial(probes.page, f"{self.edge.url}/")
        return found

    def _watch_servers(self) -> None:
        """A server that fell is started again, after longer and longer pauses; the services wait for it and go on by themselves."""
        for server, name in ((self.postgres, "PostgreSQL"), (self.nats, "NATS"), (self.edge, "the edge")):
            until, rested = self.rests.get(name, (0.0, _ROUND_SECONDS / 2))
            if server is None or server.child is None or server.running or time.monotonic() < until:
                continue
            self.report(f"{name} ended with {server.child.process.returncode}; starting it again")
            try:
                server.start()
                self.rests.pop(name, None)
            except StackError as error:
                pause = min(2 * rested, _LONGEST_PAUSE_SECONDS)
                self.rests[name] = time.monotonic() + pause, pause
                self.report(f"{error}\n  starting it again in {pause:.0f} s")

    def _watch_streams(self) -> None:
        """Say that a stream is filling, once; `relevo status` says it as long as it is so."""
        if self.nats is None:
            return
        try:
            fills = self.nats.fills()
        except httpx.HTTPError:
            return  # it is being started again
        before = {fill.name for fill in self.streams if fill.line(self.started_at)}
        self.streams = self.growth.add(time.monotonic(), fills)
        now = datetime.now(UTC)
        for fill in self.streams:
            if fill.name not in before and (line := fill.line(now)):
                self.report(line)

    # -- stop ---------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Services first, all at once; then what they stand on. Further signals are heard no more."""
        self.stopping = True
        self.phase = "stopping"
        for step in self.before_stop:
            step()
        self._write_status()
        children = [instance.child for instance in self.instances if instance.child is not None]
        if children:
            self.report(f"draining {len(children)} service processes")
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + SERVICES_GRACE_SECONDS
        for child in children:
            if not child.wait(max(0.0, deadline - time.monotonic())):
                self.report(f"{child.name} did not drain within {SERVICES_GRACE_SECONDS:.0f} s and was killed")
        for server in (self.edge, self.nats, self.postgres):
            if server is not None:
                server.stop()
        if self.postgres is not None:
            self.report("stopped")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            if not self.stopping:
                self.stopping = True
                raise StopRequested

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- status -------------------------------------------------------------------------------------------------------

    def _write_status(self) -> None:
        servers = [
            {
                "name": name,
                "pid": server.child.pid if server.child is not None and server.running else None,
                "port": server.port,
                "ready": server.running and name not in self.silent,
                "missing": self.silent.get(name, ""),
            }
            for name, server in (("postgres", self.postgres), ("nats", self.nats), ("edge", self.edge))
            if server is not None
        ]
        document = {
            "phase": self.phase,
            "pid": os.getpid(),
            "version": version("relevo-stack"),
            "started": self.started_at.isoformat(),
            "written": datetime.now(UTC).isoformat(),
            "url": self.edge.url if self.edge is not None else None,
            "servers": servers,
            "services": [instance.describe() for instance in self.instances],
            "streams": [fill.describe(datetime.now(UTC)) for fill in self.streams],
        }
        write_secret(self.home.status_file, json.dumps(document, indent=1))


def rotate_logs(folder: Path) -> None:
    """Keep each log below its limit. The writers hold the file open, so it is copied and cut, not renamed."""
    for log in folder.glob("*.log"):
        if log.stat().st_size < _LOG_LIMIT_BYTES:
            continue
        for number in range(_LOGS_KEPT, 1, -1):
            older = log.with_name(f"{log.name}.{number - 1}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number}"))
        shutil.copy2(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
