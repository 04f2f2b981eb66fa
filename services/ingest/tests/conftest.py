"""Ingest as a running service, with the keys of one account in its directory."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from relevo.chassis.auth import NewKey, new_key
from relevo.chassis.testing import Running, running
from relevo.contracts import ingest, streams
from relevo.contracts.base import Model, new_id
from relevo.contracts.catalogue import decode
from relevo.contracts.identity import KeyChanged, KeyState
from relevo.contracts.permissions import Permission
from relevo.ingest.app import build
from relevo.kernel.identity import sender_key

EVERYTHING = frozenset(Permission)


@dataclass
class World:
    """A running ingest, and what the rest of the house does around it."""

    run: Running
    account: str = field(default_factory=new_id)

    async def key(self, *permissions: Permission, inbox_id: str | None = None, account: str | None = None) -> str:
        """A new key's bearer token, once ingest's directory knows it."""
        made: NewKey = new_key("adapter" if inbox_id else "api")
        key = KeyState(
            id=made.id,
            account_id=account or self.account,
            kind="adapter" if inbox_id else "api",
            name="test",
            sha256=made.sha256,
            permissions=frozenset(permissions),
            inbox_id=inbox_id,
        )
        await self.run.admin.publish(KeyChanged(key=key), account=key.account_id, entity=key.id, sequence=1)
        await self.run.settle()
        return made.plain

    async def ask(self, method: str, path: str, bearer: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", "Accept-Language": "en"} | options.pop("headers", {})
        return await self.run.http.request(method, path, headers=headers, **options)

    async def inbox(self, bearer: str, **fields: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "/inboxes", bearer, json={"name": "WhatsApp", "channel": "whatsapp"} | fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def publish(
        self, inbox_id: str, event: Any, *, kind: str | None = None, sender: str | None = None, account: str = ""
    ) -> None:
        """What an adapter does, without its SDK: bytes as they are, everything else as JSON."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        subject = streams.INBOUND.subject(
            account=account or self.account,
            inbox=inbox_id,
            sender=sender or sender_key(event["sender"]["id"]),
            kind=kind or event["kind"],
        )
        await self.run.admin.nats.jetstream().publish(subject, body, timeout=30)

    async def events(self, model: type[Model]) -> list[tuple[dict[str, str], Any]]:
        """Headers and bodies of what ingest published, of one type."""
        await self.run.settle()
        found = []
        for _, headers, body in await self.run.admin.stored(streams.EVT_INGEST.name):
            data = decode(headers["ce-type"], body)
            if isinstance(data, model):
                found.append((headers, data))
        return found

    async def texts(self) -> list[str]:
        return [data.content.text for _, data in await self.events(ingest.MessageReceived)]


def message(external_id: str = "1", text: str = "hola", sender: str = "573001234567", **more: Any) -> dict[str, Any]:
    return {
        "kind": "message",
        "external_id": external_id,
        "sender": {"id": sender, "name": "Ana"},
        "content": {"text": text},
        "occurred_at": "2026-03-01T11:59:00Z",
    } | more


@pytest.fixture(name="message")
def _message() -> Callable[..., dict[str, Any]]:
    return message


@pytest.fixture
def world(servers: Any) -> Callable[..., AbstractAsyncContextManager[World]]:
    """`async with world() as w`: ingest on a database and a bus of the test's own."""

    @asynccontextmanager
    async def start(**environment: str) -> AsyncIterator[World]:
        async with running(build, servers, **environment) as run:
            yield World(run)

    return start
