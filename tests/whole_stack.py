"""A whole stack as an operator has it: started by `relevo up --detach` in a home of its own, used from outside."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from relevo.adapter import Adapter, InboundMessage
from relevo.adapter.metrics import Metrics
from relevo.contracts.base import now
from relevo.stack.api import Api
from relevo.stack.home import Home
from relevo.stack.postgres import SUPERUSER
from relevo.stack.process import free_port
from relevo.stack.seed import role_id, seed

_T = TypeVar("_T")


def message(external_id: str, sender: str, text: str = "hola", **more: Any) -> InboundMessage:
    """What a channel brings, just now."""
    return InboundMessage.model_validate(
        {
            "kind": "message",
            "external_id": external_id,
            "sender": {"id": sender, **more.pop("person", {})},
            "content": {"text": text},
            "occurred_at": now(),
            **more,
        }
    )


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that the servers' own user may enter, removed at the end; RELEVO_TEST_KEEP=1 leaves it.

    pytest's own temporary folders will not do: the next run of the same user closes them to everybody else.
    """
    folder = Path(tempfile.mkdtemp(prefix="relevo-whole-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if not os.environ.get("RELEVO_TEST_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


async def until(look: Callable[[], Awaitable[_T]], what: str, seconds: float = 20) -> _T:
    """Look again until the answer is true; fails naming what never came."""
    end = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what} (last seen: {found!r})"
        await asyncio.sleep(0.05)
    return found


@dataclass
class Person:
    """An agent who is signed in."""

    id: str
    email: str
    password: str = field(repr=False)
    api: Api = field(repr=False)

    async def be(self, state: str) -> None:
        await self.api.put("/presence/me", {"state": state})


@dataclass
class Account:
    """An account of a test's own: its administrator's key, one inbox with an adapter, people, metrics."""

    stack: "WholeStack"
    id: str
    admin: Api
    api_token: str = field(repr=False)
    inbox_id: str
    adapter_key: str
    adapter_creds: Path
    metrics_creds: Path
    people: list[Person] = field(default_factory=list)

    def adapter(self, **options: Any) -> Adapter:
        return Adapter(self.stack.nats_url, self.adapter_creds, self.id, self.inbox_id, **({"spool": None} | options))

    def metrics(self) -> Metrics:
        return Metrics(self.stack.nats_url, self.metrics_creds, self.id)

    def http_door(self, key: str | None = None) -> Api:
        """The adapter's other door."""
        return Api(self.stack.edge_url, key or self.adapter_key)

    async def hire(self, *names: str) -> list[Person]:
        """People of the team, signed in; offline until they say otherwise."""
        role = await role_id(self.admin, "agent")
        for name in names:
            email, password = f"{name}-{secrets.token_hex(4)}@relevo.example", secrets.token_urlsafe(18)
            body = {
                "name": name.title(),
                "email": email,
                "role_id": role,
                "inbox_ids": None,
                "initial_password": password,
            }
            agent = await self.admin.post("/agents", body)
            self.people.append(Person(agent["id"], email, password, await self._session(email, password)))
        return self.people[-len(names) :]

    async def _session(self, email: str, password: str) -> Api:
        async with Api(self.stack.edge_url) as api:
            session = await api.post("/sessions", {"email": email, "password": password})
        return Api(self.stack.edge_url, session["access_token"])

    async def conversation(self, sender: str, **wanted: Any) -> dict[str, Any]:
        """The conversation of one sender, once it is as wanted."""

        async def look() -> dict[str, Any] | None:
            page = await self.admin.get("/conversations", inbox=self.inbox_id, source=sender)
            for item in page["items"]:
                if all(item.get(name) == value for name, value in wanted.items()):
                    return dict(item)
            return None

        found = await until(look, f"a conversation of {sender} with {wanted}")
        assert found is not None
        return found

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        return [m async for m in self.admin.pages(f"/conversations/{conversation_id}/messages", order="oldest")]


class WholeStack:
    """One home and the stack that runs in it."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        """`home`: one in which a stack runs already. `folder`: a shared_folder(), or one below it."""
        self.folder = folder
        self.home = home or folder / "home"
        ports = _ports(home) if home else {name: free_port() for name in ("edge", "nats", "postgres")}
        self.environment = {
            **os.environ,
            "RELEVO_HOME": str(self.home),
            "RELEVO_PORT": str(ports["edge"]),
            "RELEVO_NATS_PORT": str(ports["nats"]),
            "RELEVO_PG_PORT": str(ports["postgres"]),
            "RELEVO_DEMO": "0",
            "RELEVO_ERASURE_SETTLE_SECONDS": "2",
            "COLUMNS": "200",
        }
        self.edge_url = f"http://127.0.0.1:{self.environment['RELEVO_PORT']}"
        self.nats_url = f"nats://127.0.0.1:{self.environment['RELEVO_NATS_PORT']}"
        self.connection: dict[str, Any] = {}
        self._told: dict[str, dict[str, str]] = {}

    def relevo(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """A command of the command line, in this home."""
        return subprocess.run(
            [sys.executable, "-m", "relevo.stack", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def start_relevo(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "relevo.stack", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *options: str) -> None:
        """Start it (options of `relevo up`), unless it runs; the demo account is there then."""
        done = self.relevo("up", "--detach", *options) if not (self.home / "run" / "status.json").exists() else None
        assert done is None or done.returncode == 0, done.stdout + done.stderr
        self.connection = asyncio.run(
            seed(
                Home(self.home),
                edge_url=self.edge_url,
                nats_url=self.nats_url,
                setup_token=self.secret("setup-token"),
            )
        )

    def down(self) -> None:
        self.relevo("down")

    def secret(self, name: str) -> str:
        return (self.home / "secrets" / name).read_text()

    # -- processes ----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.relevo("status", "--json").stdout)
        return document

    def running(self) -> dict[str, dict[str, Any]]:
        """Servers and services by name, as the supervisor last wrote (at most two seconds ago)."""
        document = json.loads((self.home / "run" / "status.json").read_text())
        return {item["name"]: item for item in (*document["servers"], *document["services"])}

    def pid(self, name: str) -> int | None:
        pid: int | None = self.running()[name]["pid"]
        return pid

    def signal(self, name: str, number: signal.Signals) -> bool:
        """False when it is not running just now."""
        pid = self.pid(name)
        try:
            if pid is not None:
                os.kill(pid, number)
                return True
        except ProcessLookupError:
            pass
        return False

    def all_ready(self) -> bool:
        return all(item["ready"] for item in self.running().values())

    def told(self, service: str) -> dict[str, str]:
        """The environment of a service's process. It stays the same when the supervisor starts it again."""
        if service not in self._told:
            text = Path(f"/proc/{self.pid(service)}/environ").read_text()
            self._told[service] = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
        return self._told[service]

    def replica(self, service: str, **environment: str) -> subprocess.Popen[bytes]:
        """One more process of a service, with the environment of the one that runs and what is added; not supervised."""
        log = self.home / "logs" / f"{service}-extra.log"
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", f"relevo.{service}", "serve"],
                env=self.told(service) | {"RELEVO_HTTP_PORT": str(free_port())} | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    # -- data ---------------------------------------------------------------------------------------------------------

    def rows(self, service: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a service's database holds, of every account, read only."""
        with psycopg.connect(
            host="127.0.0.1",
            port=int(self.environment["RELEVO_PG_PORT"]),
            dbname=f"relevo_{service}",
            user=SUPERUSER,
            password=self.secret("postgres-admin"),
            options="-c default_transaction_read_only=on",
        ) as connection:
            return connection.execute(statement, parameters).fetchall()

    @asynccontextmanager
    async def account(self, *people: str) -> AsyncIterator[Account]:
        """A new account, made through the public interface; people are offline at first."""
        name = secrets.token_hex(5)
        async with Api(self.edge_url, self.secret("setup-token")) as api:
            made = await api.post(
                "/setup",
                {
                    "account_name": f"Cuenta {name}",
                    "language": "es",
                    "time_zone": "Europe/Madrid",
                    "admin": {
                        "name": "Administración",
                        "email": f"admin-{name}@relevo.example",
                        "password": secrets.token_urlsafe(18),
                    },
                },
            )
        folder = self.folder / name
        folder.mkdir()
        async with Api(self.edge_url, made["api_token"]) as admin:
            inbox = await admin.post("/inboxes", {"name": "Tienda", "channel": "api"})
            adapter = await admin.post("/adapter-credentials", {"inbox_id": inbox["id"], "name": "pruebas"})
            metrics = await admin.post("/metrics-credentials", {"name": "pruebas"})
            (folder / "adapter.creds").write_text(adapter["credentials"])
            (folder / "metrics.creds").write_text(metrics["credentials"])
            account = Account(
                self,
                made["account_id"],
                admin,
                made["api_token"],
                inbox["id"],
                adapter["key"],
                folder / "adapter.creds",
                folder / "metrics.creds",
            )
            try:
                if people:
                    await account.hire(*people)
                yield account
            finally:
                for person in account.people:
                    await person.api.close()


def _ports(home: Path) -> dict[str, int]:
    document = json.loads((home / "run" / "status.json").read_text())
    return {item["name"]: item["port"] for item in document["servers"]}
