"""A running channels service, an inbox of each kind, and a receiver of webhooks."""

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relevo.channels.app import build
from relevo.chassis.auth import new_key
from relevo.chassis.bus import until
from relevo.chassis.testing import Admin, Running, listening, running, serving
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.identity import KeyChanged, KeyState
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.kernel.identity import sender_key


class Receiver:
    """Somebody's webhook: takes what comes, and answers what a test tells it to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.app = Starlette(routes=[Route("/hook", self._take, methods=["POST"])])
        self.url = ""

    async def _take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        status, body = self.answers.pop(0) if self.answers else (200, {})
        return JSONResponse(body, status)


class World:
    """The service and what surrounds it."""

    def __init__(self, run: Running) -> None:
        self.run = run
        self.admin: Admin = run.admin
        self.account = new_id()
        self.versions: dict[str, int] = {}

    async def inbox(self, channel: str, **more: Any) -> InboxState:
        inbox = InboxState(**{"id": new_id(), "account_id": self.account, "name": "x", "channel": channel} | more)
        await self.change(inbox)
        await self.run.settle()
        return inbox

    async def change(self, inbox: InboxState, *, deleted: bool = False) -> None:
        self.versions[inbox.id] = self.versions.get(inbox.id, 0) + 1
        await self.admin.publish(
            InboxChanged(inbox=inbox, deleted=deleted),
            account=inbox.account_id,
            entity=inbox.id,
            sequence=self.versions[inbox.id],
        )

    async def manager(self, account: str | None = None, *permissions: Permission) -> dict[str, str]:
        made = new_key("api")
        state = KeyState(
            id=made.id,
            account_id=account or self.account,
            kind="api",
            name="k",
            sha256=hashlib.sha256(made.plain.encode()).hexdigest(),
            permissions=frozenset(permissions or {Permission.INBOXES_MANAGE}),
            scope=ConversationScope.ALL,
        )
        await self.admin.publish(KeyChanged(key=state), account=state.account_id, entity=state.id, sequence=1)
        await self.run.settle()
        return {"Authorization": f"Bearer {made.plain}", "Accept-Language": "en"}

    async def send(self, inbox: InboxState, to: str, text: str, **more: Any) -> OutboundMessage:
        """What conversation publishes for an adapter."""
        fields: dict[str, Any] = {
            "message_id": new_id(),
            "conversation_id": new_id(),
            "inbox_id": inbox.id,
            "channel": inbox.channel,
            "recipient_id": to,
            "recipient_key": sender_key(to),
            "text": text,
            "author_name": "Eva",
            "created_at": now(),
        }
        message = OutboundMessage(**{**fields, **more})
        await self.admin.publish(message, account=inbox.account_id, entity=message.conversation_id)
        return message

    async def update(self, message: OutboundMessage, **change: Any) -> OutboundUpdate:
        """What conversation publishes when a message that was sent is changed."""
        fields: dict[str, Any] = {
            name: getattr(message, name)
            for name in ("conversation_id", "inbox_id", "channel", "recipient_id", "recipient_key")
        }
        fields |= {"change_id": new_id(), "of_message_id": message.message_id, "update": "edit", "updated_at": now()}
        update = OutboundUpdate(**{**fields, **change})
        await self.admin.publish(update, account=self.account, entity=update.conversation_id)
        return update

    async def inbound(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in await self.admin.stored("INBOUND")]

    async def inbound_reaches(self, count: int) -> list[dict[str, Any]]:
        async def there() -> bool:
            return len(await self.inbound()) >= count

        assert await until(there, 30), await self.inbound()
        found = await self.inbound()
        assert len(found) == count
        return found


Start = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def start(servers: Any) -> Start:
    @asynccontextmanager
    async def begin(**environment: str) -> AsyncIterator[World]:
        settings = {
            "RELEVO_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
            "RELEVO_WEBHOOKS_ALLOW_PRIVATE": "true",
            "RELEVO_WEBHOOK_BACKOFF": "0.05",
            "RELEVO_WEBCHAT_BURST": "50",
        }
        async with running(build, servers, **{**settings, **environment}) as run:
            yield World(run)

    return begin


@pytest.fixture
async def world(start: Start) -> AsyncIterator[World]:
    async with start() as world:
        yield world


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with listening(receiver.app) as port:
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    async with serving(world.run) as port:
        yield port
