"""A running realtime service behind a real HTTP server, and an organisation whose people open sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from relevo.chassis.testing import Organisation, Running, running, serving
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import AssigneeChanged, ConversationOpened, MessageCreated
from relevo.contracts.snapshots import AccessFacts, ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.realtime.app import build


class Desk(Organisation):
    """An account with its people and conversations: what identity and conversation would publish."""

    def conversation(self, **values: Any) -> ConversationSnapshot:
        fields: dict[str, Any] = {
            "id": new_id(),
            "account_id": self.account,
            "number": 1,
            "inbox_id": self.inbox,
            "channel": "webchat",
            "contact": ContactSnapshot(id=new_id(), name="Ana"),
            "source_id": "s",
            "status": "open",
            "stage": "new",
            "created_at": now(),
            "opened_at": now(),
            "last_activity_at": now(),
            "sequence": 1,
        }
        return ConversationSnapshot(**{**fields, **values})

    async def open(self, **values: Any) -> ConversationSnapshot:
        opened = self.conversation(**values)
        await self.tell(ConversationOpened(conversation=opened), opened.id)
        return opened

    async def say(self, present: ConversationSnapshot, text: str) -> ConversationSnapshot:
        after = present.model_copy(update={"sequence": present.sequence + 1})
        message = MessageSnapshot(
            id=new_id(),
            conversation_id=present.id,
            kind="incoming",
            sequence=after.sequence,
            text=text,
            author="contact:c",
            occurred_at=now(),
            created_at=now(),
        )
        await self.tell(MessageCreated(conversation=after, before=present.access, message=message), present.id)
        return after

    async def assign(self, present: ConversationSnapshot, **holder: Any) -> ConversationSnapshot:
        before: AccessFacts = present.access
        after = present.model_copy(update={"sequence": present.sequence + 1, **holder})
        await self.tell(AssigneeChanged(conversation=after, before=before), present.id)
        return after


class Listener:
    """One client of the socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), 10))
        return message

    async def until(self, type_: str) -> list[dict[str, Any]]:
        """What comes, up to and with the first message of this type."""
        found = [await self.next()]
        while found[-1]["type"] != type_:
            found.append(await self.next())
        return found

    async def quiet(self) -> list[dict[str, Any]]:
        """What has come until the answer to a ping sent now."""
        await self.connection.send('{"type": "ping"}')
        return (await self.until("pong"))[:-1]

    async def closed(self) -> int:
        await asyncio.wait_for(self.connection.wait_closed(), 10)
        assert self.connection.close_code is not None
        return self.connection.close_code


class World:
    """The service, its server, and one organisation."""

    def __init__(self, run: Running, port: int) -> None:
        self.run = run
        self.port = port
        self.org = Desk(run.admin)

    async def ticket(self, agent_id: str, session_id: str | None = None) -> str:
        answer = await self.run.http.post("/socket/tickets", headers=self.org.as_(agent_id, session_id))
        assert answer.status_code == 201, answer.text
        ticket: str = answer.json()["ticket"]
        return ticket

    def address(self, ticket: str, **query: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return f"ws://127.0.0.1:{self.port}/api/v1/socket?ticket={ticket}{more}"

    @asynccontextmanager
    async def socket(self, agent_id: str, session_id: str | None = None, **query: str) -> AsyncIterator[Listener]:
        async with connect(self.address(await self.ticket(agent_id, session_id), **query)) as connection:
            yield Listener(connection)


@pytest.fixture
async def world(servers: Any) -> AsyncIterator[World]:
    async with (
        running(
            build, servers, RELEVO_REJUDGE_SECONDS="0.1", RELEVO_HEARTBEAT_SECONDS="0.2", RELEVO_SOCKETS_PER_AGENT="2"
        ) as run,
        serving(run) as port,
    ):
        world = World(run, port)
        await world.org.found()
        yield world


@pytest.fixture
async def worlds(servers: Any) -> AsyncIterator[tuple[World, World]]:
    """Two replicas of the service, each with its own address, and one organisation; what is said is soon forgotten."""
    fast = {"RELEVO_REJUDGE_SECONDS": "0.1", "RELEVO_TYPING_SECONDS": "0.8", "RELEVO_LOOK_SECONDS": "2"}
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(build, servers, **fast))
        two = await stack.enter_async_context(running(build, servers, bus=one.bus, dsn=one.dsn, **fast))
        first = World(one, await stack.enter_async_context(serving(one)))
        second = World(two, await stack.enter_async_context(serving(two)))
        second.org = first.org
        await first.org.found()
        yield first, second
