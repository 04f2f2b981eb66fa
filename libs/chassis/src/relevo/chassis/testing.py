"""Run a real service in a test: its own migrated database, its own bus account, its own permissions.

Takes the session's servers from the pytest plugin of the stack; knows nothing else of it.
"""

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, LiteralString, Protocol, TypeVar

import httpx
import nats
import psycopg
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nats.aio.client import Client
from sqlalchemy import text

from relevo.chassis import outbox, tenancy, topology
from relevo.chassis.auth import access_token
from relevo.chassis.bus import BusError, until
from relevo.chassis.http import create_app
from relevo.chassis.migrations import (
    create_chassis_tables,
    create_drop_tables,
    create_erasure_tables,
    create_handled_table,
    create_log_tables,
    migrate,
)
from relevo.chassis.service import Runtime, Service, application
from relevo.contracts import identity
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.catalogue import BY_MODEL, read_by, reader_filter
from relevo.contracts.dead import DeadLettered
from relevo.contracts.envelope import Envelope
from relevo.contracts.grants import inbox_prefix, service_grants
from relevo.contracts.permissions import ROLES

T = TypeVar("T")

_templates: dict[str, str] = {}
recorded: dict[str, set[str]] = {}
"""By test, the operations that it called and the types of the messages that it published or had published."""


def note(name: str) -> None:
    """Record that the test that runs now calls an operation, or that a message of this type is published meanwhile."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    recorded.setdefault(test, set()).add(name)


def _noting(app: Any) -> Any:
    async def noted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if route := scope.get("route"):
            note(route.name)

    return noted


_outgoing = outbox.outgoing


def _noted(service: str, data: Model, **options: Any) -> Any:
    note(BY_MODEL[type(data)].name)
    return _outgoing(service, data, **options)


outbox.outgoing = _noted


class TestBus(Protocol):
    """A bus account of a test's own (relevo.stack.testing)."""

    nats_url: str
    admin_creds: Any

    def user(self, name: str, *, publish: Sequence[str], subscribe: Sequence[str]) -> Any:
        """A .creds file with exactly these permissions."""


class TestServers(Protocol):
    """The session's PostgreSQL and NATS (relevo.stack.testing)."""

    def create_database(self, template: str | None = None, *, lasting: bool = False) -> str: ...
    def create_bus(self) -> Any: ...
    def serving(self, dsn: str) -> str: ...
    def inspecting(self, dsn: str) -> str: ...


class Admin:
    """A connection that may do everything: what the other services and adapters would do, a test does with it."""

    def __init__(self, client: Client) -> None:
        self.nats = client

    async def request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        """A JetStream API request."""
        reply = await self.nats.request(subject, json.dumps(payload).encode(), timeout=30)
        answer: dict[str, Any] = json.loads(reply.data)
        if error := answer.get("error"):
            raise BusError(str(error), error.get("err_code", 0))
        return answer

    async def publish(
        self, data: Model, *, account: str, entity: str, actor: str = "system", sequence: int = 0, **more: Any
    ) -> Envelope:
        """Publish a message of the catalogue as its first publisher would."""
        publisher = BY_MODEL[type(data)].publishers[0]
        options = {"time": None, "cause": None, "id": None} | more
        envelope, row = outbox.outgoing(
            publisher, data, account=account, entity=entity, actor=actor, sequence=sequence, **options
        )
        await self.nats.jetstream().publish(row.subject, row.body, headers=json.loads(row.headers), timeout=30)
        return envelope

    async def stored(self, stream: str, subject: str = ">") -> list[tuple[str, dict[str, str], bytes]]:
        """Every event that a stream holds now: subject, headers, body, in order."""
        js = self.nats.jetstream()
        found = []
        info = await js.stream_info(stream)
        if not info.state.messages:
            return []
        subscription = await js.subscribe(subject if subject != ">" else "", stream=stream, ordered_consumer=True)
        while True:
            message = await subscription.next_msg(timeout=30)
            if not message.subject.startswith("fence."):
                found.append((message.subject, dict(message.headers or {}), message.data))
            if not message.metadata.num_pending:
                break
        await subscription.unsubscribe()
        return found


class Running:
    """A service that runs, with a client for its HTTP and an admin's hand on its bus."""

    def __init__(self, runtime: Runtime, client: httpx.AsyncClient, admin: Admin, bus: TestBus, dsn: str) -> None:
        """``dsn``: of the database, as a role that sees the rows of every account."""
        self.runtime = runtime
        self.http = client
        self.admin = admin
        self.bus = bus
        self.dsn = dsn

    async def settle(self, seconds: float = 30.0) -> None:
        """Wait until everything on the bus that this service wants is handled and everything it emitted is published."""

        async def caught_up() -> bool:
            async with self.runtime.database.begin() as tx:
                rows = (await tx.execute(text("select stream, p, seq from position"))).all()
                waiting = (
                    await tx.execute(text("select exists (select 1 from outbox where stream_seq is null)"))
                ).scalar_one()
            if waiting:
                return False
            positions = {(row.stream, row.p): row.seq for row in rows}
            for stream in read_by(self.runtime.name):
                for p in range(stream.partitions):
                    last = await self.runtime.bus.last_message(stream, reader_filter(self.runtime.name, stream, p))
                    if last and positions[stream.name, p] < last.seq:
                        return False
            return True

        if not await until(caught_up, seconds):
            raise AssertionError(f"{self.runtime.name} did not catch up within {seconds:g} s: {self.runtime.missing()}")


class Organisation:
    """An account with its people, as identity would publish them, and the tokens that they sign in with.

    A test extends it by what the other services would say. Events of one entity are numbered from 1 in each stream.
    """

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.account = new_id()
        self.inbox = new_id()
        self.people: dict[str, identity.AgentState] = {}
        self._numbers: Counter[tuple[str, str]] = Counter()
        key = Ed25519PrivateKey.generate()
        self.key_id = new_id()
        self.pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.roles = {
            name: identity.RoleState(
                id=new_id(),
                account_id=self.account,
                name=name,
                permissions=template.permissions,
                scope=template.scope,
                predefined=True,
            )
            for name, template in ROLES.items()
        }

    async def tell(self, event: Model, entity: str, account: str | None = None, *, actor: str = "system") -> None:
        """Publish an event as the next one of its entity."""
        key = (type(event).__module__, entity)
        self._numbers[key] += 1
        await self.admin.publish(
            event, account=account or self.account, entity=entity, sequence=self._numbers[key], actor=actor
        )

    async def found(self) -> None:
        """Publish the signing key and the roles."""
        signing = identity.SigningKeyState(id=self.key_id, public_pem=self.public)
        await self.tell(identity.SigningKeyChanged(signing_key=signing), self.key_id, identity.PLATFORM)
        for role in self.roles.values():
            await self.tell(identity.RoleChanged(role=role), role.id)

    async def hire(self, name: str, role: str = "agent", **more: Any) -> str:
        """A new agent; answers the id."""
        given = {"role_id": self.roles[role].id, "language": "en"} | more
        agent = identity.AgentState(
            id=new_id(), account_id=self.account, name=name, email=f"{name}@example.org", **given
        )
        await self.change(agent)
        return agent.id

    async def change(self, agent: identity.AgentState, *, deleted: bool = False) -> None:
        """An agent was edited, or removed."""
        self.people[agent.id] = agent
        await self.tell(identity.AgentChanged(agent=agent, deleted=deleted), agent.id)

    async def dismiss(self, agent_id: str) -> None:
        """An agent is removed."""
        await self.change(self.people[agent_id].model_copy(update={"active": False}), deleted=True)

    def as_(self, agent_id: str, session_id: str | None = None) -> dict[str, str]:
        """The headers of a request by this agent."""
        token = access_token(
            self.pem,
            self.key_id,
            agent_id=agent_id,
            account_id=self.account,
            session_id=session_id or new_id(),
            issued_at=now(),
            expires_at=now() + timedelta(minutes=5),
        )
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def admin_of(bus: TestBus) -> AsyncIterator[Admin]:
    """Connect as the test account's administrator."""
    client = await nats.connect(bus.nats_url, user_credentials=str(bus.admin_creds))
    try:
        yield Admin(client)
    finally:
        await client.close()


def template_database(servers: TestServers, package: str) -> str:
    """A database with this package's migrations, made once a session; copies of it are what tests use."""
    if package not in _templates:
        dsn = servers.create_database(lasting=True)
        migrate(dsn, package)
        _templates[package] = dsn
    return _templates[package]


def chassis_database(servers: TestServers, *statements: LiteralString) -> str:
    """A database with the chassis' own tables, and what these statements make."""
    dsn = servers.create_database()
    with psycopg.connect(dsn) as connection:
        # Of Alembic's op they want `execute` only.
        create_chassis_tables(connection)
        create_log_tables(connection)
        create_handled_table(connection)
        create_erasure_tables(connection)
        create_drop_tables(connection)
        for statement in statements:
            connection.execute(statement)
    tenancy.guard(dsn)
    return dsn


@asynccontextmanager
async def running(
    build: Callable[[], Service],
    servers: TestServers,
    *,
    bus: TestBus | None = None,
    dsn: str | None = None,
    **environment: str,
) -> AsyncIterator[Running]:
    """Run a service in this process on real servers, HTTP without a socket.

    ``environment`` adds variables (``RELEVO_X="…"``) for its settings. Give ``bus`` and ``dsn`` of an earlier run to
    start a second replica, or the same service again.
    """
    bus = bus or servers.create_bus()
    base = {"RELEVO_DATABASE_URL": "postgresql://nobody@localhost/none"} | environment
    name_of = _build_with(build, base)
    dsn = dsn or servers.create_database(template=template_database(servers, name_of.migrations))
    grants = service_grants(name_of.name)
    credentials = bus.user(name_of.name, publish=grants.publish, subscribe=grants.subscribe)
    service = _build_with(
        build,
        base
        | {
            "RELEVO_DATABASE_URL": servers.serving(dsn),
            "RELEVO_NATS_URL": bus.nats_url,
            "RELEVO_NATS_CREDENTIALS": str(credentials),
            "RELEVO_ALLOW_UNSAFE_BROKER": "true",
        },
    )
    async with admin_of(bus) as admin:
        await topology.apply(admin)
        app = application(service)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(_noting(app))
            async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
                yield Running(app.state.runtime, client, admin, bus, servers.inspecting(dsn))


@contextmanager
def stepwise(context: AbstractAsyncContextManager[T]) -> Iterator[tuple[T, Callable[[Any], Any]]]:
    """What an asynchronous context gives, and what runs coroutines beside it, for tests that are not asynchronous.

    Its loop stands still in between: services in it want ``RELEVO_LOOP_STALL_SECONDS="3600"``.
    """
    with asyncio.Runner() as runner:
        given = runner.run(context.__aenter__())
        try:
            yield given, runner.run
        finally:
            runner.run(context.__aexit__(None, None, None))


@asynccontextmanager
async def serving(run: Running) -> AsyncIterator[int]:
    """The service's routes on a real port, which is answered: sockets need one."""
    service = run.runtime.service
    app = create_app(service.name, service.router, service.settings)
    app.state.runtime = run.runtime
    async with listening(app) as port:
        yield port


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port, which is answered."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    assert await until(started, 10, every=0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


def dead_letter(service: str) -> DeadLettered:
    """A dead letter of this service that tells of nobody."""
    return DeadLettered(
        dead_letter_id=new_id(),
        service=service,
        stream="INBOUND",
        stream_seq=1,
        subject="s",
        headers={},
        body="b",
        reason="handler",
        error="e",
        attempts=3,
        at=now(),
    )


def _build_with(build: Callable[[], Service], environment: dict[str, str]) -> Service:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return build()
    finally:
        os.environ.clear()
        os.environ.update(before)


def unique(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{new_id()[-12:]}"


__all__ = [
    "Admin",
    "Organisation",
    "Running",
    "admin_of",
    "dead_letter",
    "inbox_prefix",
    "listening",
    "running",
    "serving",
    "template_database",
    "unique",
]
