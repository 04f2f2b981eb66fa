"""Real servers for tests, as a pytest plugin: `pytest_plugins = ["relevo.stack.testing"]`.

The session fixture `servers` starts one PostgreSQL and one NATS (operator mode, as in production) on free ports in a
temporary folder. Tests keep apart by database (`servers.create_database()`) and by NATS account
(`servers.create_bus()`): each bus has its own streams, so that stream names need no prefix and nothing is purged.
The folder is in memory where the machine has enough of it: copying a template takes a tenth of the time there, and a
test's databases are dropped after it.

RELEVO_TEST_POSTGRES (a superuser's DSN) and RELEVO_TEST_NATS (a URL, with RELEVO_TEST_NATS_KEYS, the path of the
keys file as a stack's home holds it) use servers that run already.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import nats
import psycopg
import pytest
from psycopg import sql

from relevo.chassis import credentials
from relevo.stack import databases, memory
from relevo.stack.keys import BusKeys, write_secret
from relevo.stack.nats import NatsServer
from relevo.stack.place import Place, unprivileged
from relevo.stack.postgres import THROWAWAY, PostgresServer
from relevo.stack.process import end_leftover, free_port

_T = TypeVar("_T")
_ROOM = 8 * 1024**3
"""What two runs at a time take at most is a quarter of it."""
OWNER = "relevo_test"
"""The ordinary role that owns test databases: what a service may not do in production fails in its tests too."""
INSPECTOR = "relevo_inspector"
"""The role as which a test looks into a service's tables: it sees the rows of every account."""
_OWNER_PASSWORD = "relevo_test"  # noqa: S105 — a throwaway server on loopback
_EXTENSIONS = ("unaccent", "pg_trgm")


@dataclass(frozen=True, slots=True)
class Bus:
    """A NATS account of one test's own."""

    nats_url: str
    account: str
    """The account's public key."""
    folder: Path
    signing_seed: str = field(repr=False)

    @property
    def admin_creds(self) -> Path:
        """A user who may do everything in this account."""
        return self.user("admin", publish=[">"], subscribe=[">"])

    def user(self, name: str, *, publish: Iterable[str], subscribe: Iterable[str]) -> Path:
        """The .creds file of a user with exactly these permissions; made anew at each call."""
        pair = credentials.new_user()
        jwt = credentials.user_jwt(
            pair.public,
            name,
            self.signing_seed,
            self.account,
            issued_at=datetime.now(UTC),
            publish=publish,
            subscribe=subscribe,
        )
        path = self.folder / f"{self.account[:8]}-{name}-{pair.public[:8]}.creds"
        return write_secret(path, credentials.creds_file(jwt, pair.seed))


@dataclass(slots=True)
class TestServers:
    """PostgreSQL and NATS, ready."""

    __test__ = False

    pg_admin_dsn: str
    """A superuser's DSN, of the database `postgres`."""
    nats_url: str
    keys: BusKeys
    folder: Path
    postgres: PostgresServer | None = None
    nats: NatsServer | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _passing: list[str] = field(default_factory=list)
    """The databases that have been made since the last test began."""

    @property
    def bus(self) -> Bus:
        """The account RELEVO itself, which all tests share."""
        return Bus(self.nats_url, self.keys.account.public, self.folder, self.keys.services_signing.seed)

    def create_database(self, template: str | None = None, *, lasting: bool = False) -> str:
        """The DSN of a new, empty database (or a copy of `template`, a name or DSN), owned by an ordinary role.

        The extensions unaccent and pg_trgm are there. Nobody may be connected to the template. One that is made within
        a test goes with it, unless it is `lasting`; one that a fixture of several tests makes stays.
        """
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        source = "template1" if template is None else urlsplit(template).path.removeprefix("/") or template
        with psycopg.connect(self.pg_admin_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(source), sql.Identifier(OWNER)
                )
            )
        dsn = self.dsn(name)
        if not lasting:
            self._passing.append(dsn)
        return dsn

    def drop_database(self, dsn: str) -> None:
        """Remove a database that create_database made, cutting whoever is connected."""
        if dsn in self._passing:
            self._passing.remove(dsn)
        name = urlsplit(dsn).path.removeprefix("/")
        with psycopg.connect(self.pg_admin_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def passing(self) -> Iterator[None]:
        """What is made of databases within goes afterwards."""
        self._passing.clear()
        yield
        for dsn in tuple(self._passing):
            self.drop_database(dsn)

    def dsn(self, database: str, role: str = OWNER) -> str:
        parts = urlsplit(self.pg_admin_dsn)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(("postgresql", f"{role}:{_OWNER_PASSWORD}@{host}", f"/{database}", "", ""))

    def serving(self, dsn: str) -> str:
        """The DSN as which a service uses a test's database."""
        return self.dsn(urlsplit(dsn).path.removeprefix("/"))

    def inspecting(self, dsn: str) -> str:
        """The DSN as which a test looks into it, past the wall between accounts."""
        return self.dsn(urlsplit(dsn).path.removeprefix("/"), INSPECTOR)

    def create_bus(self) -> Bus:
        """A new NATS account with a JetStream of its own, known to the running server."""
        account = credentials.new_account()
        jwt = credentials.account_jwt(
            account.public,
            f"test-{next(self._numbers)}",
            self.keys.operator_signing.seed,
            issued_at=datetime.now(UTC),
        )
        self.push_account(jwt)
        return Bus(self.nats_url, account.public, self.folder, account.seed)

    def push_account(self, jwt: str) -> None:
        """Have the running server take an account JWT, as identity does to revoke."""
        creds = write_secret(
            self.folder / f"sys-{next(self._numbers)}.creds",
            self.keys.system_credentials("tests", [">"], [">"]),
        )
        subject = credentials.account_update_subject(credentials.parse(jwt).subject)

        async def push() -> None:
            client = await nats.connect(self.nats_url, user_credentials=str(creds))
            answer = await client.request(subject, jwt.encode(), timeout=30)
            await client.close()
            if b'"error"' in answer.data:
                raise RuntimeError(answer.data.decode())

        run_apart(push)


def start_servers(folder: Path) -> TestServers:
    """Start both servers below the folder, or take those that the environment names."""
    place = Place(folder / "servers", unprivileged())
    place.root.mkdir(mode=0o711)
    postgres: PostgresServer | None = None
    broker: NatsServer | None = None
    if dsn := os.environ.get("RELEVO_TEST_POSTGRES"):
        pg_admin_dsn = dsn
    else:
        postgres = PostgresServer(
            place, free_port(), "relevo_admin", folder / "postgres.log", {**THROWAWAY, "max_connections": "200"}
        )
        postgres.start()
        pg_admin_dsn = postgres.dsn()
    if url := os.environ.get("RELEVO_TEST_NATS"):
        keys = BusKeys.load(Path(os.environ["RELEVO_TEST_NATS_KEYS"]).read_text())
    else:
        keys = BusKeys.generate()
        broker = NatsServer(place, free_port(), free_port(), keys, folder / "nats.log")
        broker.start()
        url = broker.url
    _prepare(pg_admin_dsn)
    return TestServers(pg_admin_dsn, url, keys, folder, postgres, broker)


def run_apart(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end in a thread of its own: also from within a running event loop."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 — handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@pytest.fixture(scope="session")
def servers() -> Iterator[TestServers]:
    folder = Path(tempfile.mkdtemp(prefix=f"relevo-test-{os.getpid()}-", dir=_in_memory()))
    folder.chmod(0o711)
    started = start_servers(folder)
    try:
        yield started
    finally:
        if started.nats is not None:
            started.nats.stop()
        if started.postgres is not None:
            started.postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _its_databases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drops them after a test. Fixtures of several tests have made theirs by now."""
    if "servers" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("servers").passing():
        yield


def _in_memory() -> str | None:
    """The folder of files that are kept in memory, if there is one from which programs may run, with plenty of room."""
    folder = "/dev/shm"  # noqa: S108  (mkdtemp makes what nobody else can guess)
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    for left in Path(folder).glob("relevo-test-*"):  # of a run that was killed: it would keep the memory
        if not Path("/proc", left.name.split("-")[2]).exists():
            for pid_file in left.glob("servers/*.pid"):
                end_leftover(pid_file)
            shutil.rmtree(left, ignore_errors=True)
    room = min(found.f_bavail * found.f_frsize, memory.usable())
    return folder if room >= _ROOM and not found.f_flag & os.ST_NOEXEC else None


def _prepare(pg_admin_dsn: str) -> None:
    with psycopg.connect(pg_admin_dsn, autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        password = sql.Literal(_OWNER_PASSWORD)
        if OWNER not in known:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOBYPASSRLS PASSWORD {}").format(sql.Identifier(OWNER), password)
            )
        if INSPECTOR not in known:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS IN ROLE {} PASSWORD {}").format(
                    sql.Identifier(INSPECTOR), sql.Identifier(OWNER), password
                )
            )
    parts = urlsplit(pg_admin_dsn)
    databases.prepare(urlunsplit(parts._replace(path="/template1")), _EXTENSIONS)
