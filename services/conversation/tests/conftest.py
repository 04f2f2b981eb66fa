"""What the tests of this service share: an account's world, batches as the reader hands them, and what came of them."""

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nats.aio.msg import Msg
from psycopg.rows import dict_row

from relevo.chassis import Received, directory
from relevo.chassis.auth import access_token
from relevo.chassis.database import Database, Pool, Tx
from relevo.chassis.outbox import ensure_days, outgoing
from relevo.chassis.testing import running, template_database
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.identity import PLATFORM, AgentState, RoleState, SigningKeyState
from relevo.contracts.inbound import Content, Sender
from relevo.contracts.ingest import InboxState, MessageReceived, StatusReceived
from relevo.contracts.permissions import ROLES
from relevo.conversation.app import build
from relevo.kernel.identity import sender_key

from .contact_office import Office, run_module

_sequence = itertools.count(1)


def received(data: Model, *, account: str, entity: str, actor: str = "system", id: str | None = None) -> Received:  # noqa: A002
    """A message as the reader hands it over."""
    message = BY_MODEL[type(data)]
    _, row = outgoing(
        message.publishers[0],
        data,
        account=account,
        entity=entity,
        actor=actor,
        sequence=0,
        time=None,
        cause=None,
        id=id,
    )
    tokens = row.subject.split(".")
    tokens.insert(message.stream.partition_at, str(row.p))
    msg = Msg(None, ".".join(tokens), "", row.body, json.loads(row.headers))
    return Received(message.stream, row.p, msg, next(_sequence), 0, int(datetime.now(UTC).timestamp() * 1e9))


@dataclass
class World:
    """One account with an inbox, whose customers write."""

    account_id: str = field(default_factory=new_id)
    inbox: InboxState = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.inbox = self.inbox or self.make_inbox()

    def make_inbox(self, channel: str = "whatsapp", **more: Any) -> InboxState:
        return InboxState(id=new_id(), account_id=self.account_id, name=channel, channel=channel, **more)

    def message(
        self, who: str, text: str = "Hola", inbox: InboxState | None = None, *, automatic: bool = False, **sender: Any
    ) -> Received:
        inbox = inbox or self.inbox
        data = MessageReceived(
            inbox=inbox,
            sender_key=sender_key(who),
            sender=Sender(id=who, **({"name": f"Cliente {who}"} | sender)),
            external_id=new_id(),
            content=Content(text=text),
            automatic=automatic,
            occurred_at=now(),
            received_at=now(),
        )
        return received(data, account=self.account_id, entity=f"{inbox.id}_{sender_key(who)}")

    def status(self, who: str, message_id: str, status: str, inbox: InboxState | None = None) -> Received:
        inbox = inbox or self.inbox
        data = StatusReceived(
            inbox=inbox,
            sender_key=sender_key(who),
            message_id=message_id,
            external_id=f"wamid.{message_id}",
            status=status,
            occurred_at=now(),
        )
        return received(data, account=self.account_id, entity=f"{inbox.id}_{sender_key(who)}")

    def command(self, data: Model, conversation_id: str, id: str | None = None) -> Received:  # noqa: A002
        return received(data, account=self.account_id, entity=conversation_id, actor="rule:r1", id=id)

    def told(self, data: Model, conversation_id: str) -> Received:
        return received(data, account=self.account_id, entity=conversation_id)


class Service:
    """The service's handlers on a real database of the test's own."""

    def __init__(self, serving: str, inspecting: str) -> None:
        self.dsn = inspecting
        self.accounts: set[str] = set()
        """Those that the service has heard of: what a test looks at besides is theirs."""
        pool = Pool(serving, service="conversation", size=8, lease_seconds=4)
        self.database = Database(pool, "conversation", accounts=lambda: self.accounts)
        self.statements: list[str] = []

    async def handle(self, handler: Callable[[Sequence[Received], Tx], Any], *batch: Received) -> None:
        accounts = {one.account for one in batch}
        self.accounts |= accounts
        async with self.database.begin(*accounts) as tx:
            execute = tx.execute

            async def noted(statement: Any, parameters: Any = None) -> Any:
                self.statements.append(str(statement))
                return await execute(statement, parameters)

            tx.execute = noted  # type: ignore[method-assign]
            await handler(batch, tx)

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def events(self, entity: str | None = None) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        """What was emitted, in order: last token of the type, body, headers."""
        found = []
        for row in self.rows("select headers, body from outbox order by id"):
            headers = json.loads(row["headers"])
            if entity is None or headers["ce-subject"] == entity:
                found.append((headers["ce-type"].split(".")[-2], json.loads(row["body"]), headers))
        return found


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def run(servers: Any) -> Callable[[Callable[[Service], Any]], Any]:
    """Run an async test body with a Service on a fresh database."""

    def runner(body: Callable[[Service], Any]) -> Any:
        async def main() -> Any:
            dsn = servers.create_database(template=template_database(servers, "relevo.conversation.migrations"))
            service = Service(dsn, servers.inspecting(dsn))
            async with service.database.begin() as tx:
                await ensure_days(tx)
            service.statements.clear()
            try:
                return await body(service)
            finally:
                await service.database.close()

        return asyncio.run(main())

    return runner


class Desk:
    """The running service, with people who sign in."""

    def __init__(self, service, world) -> None:
        self.service = service
        self.world = world
        self.key_id = new_id()
        pair = Ed25519PrivateKey.generate()
        self.private = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.public = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    async def know(self, kind, state, account=None) -> None:
        async with self.service.runtime.database.begin(account or self.world.account_id) as tx:
            await directory.apply(tx, kind, account or self.world.account_id, state.id, state, 1)

    async def agent(self, role="agent", teams=(), inboxes=None, permissions=None, scope=None) -> tuple[str, dict]:
        """A new agent's id, and the headers of their requests."""
        template = ROLES[role]
        await self.know("signing_key", SigningKeyState(id=self.key_id, public_pem=self.public), PLATFORM)
        state = RoleState(
            id=new_id(),
            account_id=self.world.account_id,
            name="Custom",
            permissions=template.permissions if permissions is None else permissions,
            scope=scope or template.scope,
        )
        await self.know("role", state)
        agent = AgentState(
            id=new_id(),
            account_id=self.world.account_id,
            name="Eva Ruiz",
            email="eva@example.com",
            role_id=state.id,
            team_ids=teams,
            inbox_ids=inboxes,
        )
        await self.know("agent", agent)
        token = access_token(
            self.private,
            self.key_id,
            agent_id=agent.id,
            account_id=self.world.account_id,
            session_id=new_id(),
            issued_at=now(),
            expires_at=now() + timedelta(hours=1),
        )
        return agent.id, {"authorization": f"Bearer {token}", "accept-language": "es"}

    async def customer_writes(self, who="34600111222", text="Hola", **more) -> None:
        message = self.world.message(who, text, **more)
        await self.service.admin.publish(
            message.data, account=self.world.account_id, entity=message.envelope.entity, sequence=1
        )
        await self.service.settle()

    async def get(self, path, who, **params):
        return await self.service.http.get(path, headers=who, params=params)

    async def begun(self, seer, text="Hola", **more) -> str:
        """The path of a conversation that a customer has just begun, as `seer` sees it."""
        await self.customer_writes(text=text, **more)
        return f"/conversations/{(await self.get('/conversations', seer)).json()['items'][0]['id']}"

    async def lines(self, path, who) -> list[str]:
        """The activity lines of a conversation."""
        items = (await self.get(f"{path}/messages", who)).json()["items"]
        return [m["text"] for m in items if m["kind"] == "activity"]

    async def refused(self, answer, status, code, pointer=None) -> None:
        """It was, for this reason."""
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        if pointer:
            assert answer.json()["errors"][0]["pointer"] == pointer

    async def send(self, method, path, who, body=None):
        return await self.service.http.request(method, path, headers=who, json=body)

    async def post(self, path, who, body=None, **headers):
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.service.http.post(path, headers=who | more, json=body)


@pytest.fixture
def at_desk(servers, world):
    """Run an async test body with a Desk."""

    @asynccontextmanager
    async def desk():
        async with running(build, servers) as service:
            yield Desk(service, world)

    def runner(body):
        async def main():
            async with desk() as one:
                await body(one)

        asyncio.run(main())

    return runner


@pytest.fixture(scope="module")
def running_office(servers):
    """One running service for the tests of a module; each has an account of its own."""
    yield from run_module(servers)


@pytest.fixture
def at_office(running_office):
    """Run an async test body with an Office and an administrator."""
    service, run = running_office

    def runner(body):
        async def main():
            office = await Office(service).open()
            await body(office, await office.who("administrator"))

        run(main())

    return runner


@pytest.fixture
def desk_of():
    """Makes a Desk of a running service."""
    return Desk
