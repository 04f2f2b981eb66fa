"""Beside the main load, a little of everything else that the services do, so that no crash point waits for traffic."""

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from typing import Any

import nats
import nats.errors
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from chaos.checker import Ledger, Promised
from nats.aio.client import Client
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import WebSocketException
from whole_stack import Account, Person, WholeStack, message

from relevo.adapter import sender_key
from relevo.adapter.adapter import Adapter
from relevo.adapter.errors import AdapterError
from relevo.adapter.metrics import credential_id
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import CMD_PRESENCE, INBOUND
from relevo.stack.api import Refused
from relevo.stack.process import free_port

PASSING = (AdapterError, Refused, WebSocketException, nats.errors.Error, OSError, TimeoutError)
"""What a step may end with while everything is being killed; the next one comes soon."""
AT_ONCE = 6
SOCKET_SECONDS = 2.0
ACK_SECONDS = 5.0


class Receivers:
    """The world outside: a mail server and a webhook, both of which take everything."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._mail = Controller(self, hostname="127.0.0.1", port=free_port())
        self._hook: asyncio.Server | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 — aiosmtpd's
        name = str(message_from_bytes(envelope.content or b"")["Message-ID"])
        self.ledger.mailed[name.strip("<>").partition("@")[0]] += 1
        return "250 OK"

    def start_mail(self) -> str:
        """The mail server's address; it runs in a thread of its own."""
        self._mail.start()
        return f"smtp://127.0.0.1:{self._mail.port}"

    def stop_mail(self) -> None:
        self._mail.stop()

    @asynccontextmanager
    async def webhook(self) -> AsyncIterator[str]:
        """A webhook's address."""
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            self.ledger.hooked[json.loads(body)["data"]["message_id"]] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()


@dataclass
class Variety:
    """Loops that go round until it is enough. What was promised is in the ledger, what was refused is counted."""

    stack: WholeStack
    account: Account
    ledger: Ledger
    random: random.Random
    inbox: str
    """A second inbox: what comes in by HTTP and leaves by webhook."""
    key: str = field(repr=False)
    """The adapter's key of that inbox."""
    idle: list[Person] = field(default_factory=list)
    """People who change their status all the time, and get mail."""
    answering: list[Person] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    _numbers: Counter[str] = field(default_factory=Counter)

    async def run(self, enough: asyncio.Event) -> None:
        for person in self.idle:
            kinds = [{"kind": kind, "in_app": True, "email": True} for kind in ("assignment", "mention")]
            await person.api.put("/notifications/preferences", {"items": kinds})
        steps: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (self._directory, 1.0),
            (self._statuses, 1.5),
            (self._sockets, 0.5),
            (self._by_hand, 0.7),
            (self._by_webhook, 0.7),
            (self._put_off, 0.5),
            (self._faulty, 0.5),
            (self._poison, 1.0),
            (self._rotate, 2.0),
        ]
        async with asyncio.TaskGroup() as group:
            for worker in range(2):
                group.create_task(self._by_http(worker, enough))
            for step, pause in steps:
                group.create_task(self._again(step, pause, enough))
        for person in self.idle:
            await person.be("available")

    async def _again(self, step: Callable[[], Awaitable[None]], pause: float, enough: asyncio.Event) -> None:
        name = step.__name__.strip("_")
        while not enough.is_set():
            try:
                await step()
                self.rounds[name] += 1
            except Refused as refused:
                self.refused[f"{name}: {refused.status} {refused.code}"] += 1
            except PASSING as error:
                self.refused[f"{name}: {type(error).__name__}"] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), pause)

    async def _by_http(self, worker: int, enough: asyncio.Event) -> None:
        """The adapter's other door; asks again until it is answered."""
        async with self.account.http_door(self.key) as door:
            while not enough.is_set():
                sender = f"h{worker}-{self.random.randrange(5)}"
                self.ledger.elsewhere[sender] = self.inbox
                events = []
                for _ in range(3):
                    self._numbers[sender] += 1
                    external = f"{sender}-{self._numbers[sender]}"
                    self.ledger.tried[external] = (sender, self._numbers[sender])
                    events.append(message(external, sender, "Por HTTP"))
                body = {"events": [event.model_dump(mode="json", exclude_none=True) for event in events]}
                while True:
                    try:
                        answer = await door.post(f"/inbound/{self.inbox}", body)
                        break
                    except Refused as refused:
                        if refused.status not in {0, 429, 502, 503, 504}:
                            raise
                        self.refused[f"by_http: {refused.status} {refused.code}"] += 1
                for result in answer["results"]:
                    assert result["status"] in {"accepted", "duplicate"}, result
                    self.ledger.took(result["external_id"])
                self.rounds["by_http"] += 1
                await asyncio.sleep(0.3)

    async def _directory(self) -> None:
        """Several things of the directory change at the same moment; a name and a credential come and go."""
        admin = self.account.admin
        names = [f"Equipo {new_id()[-8:]}" for _ in range(4)]
        teams = await asyncio.gather(*(admin.post("/teams", {"name": name}) for name in names))
        metrics = await admin.post("/metrics-credentials", {"name": "de paso"})
        await asyncio.gather(
            admin.delete(f"/metrics-credentials/{metrics['id']}"),
            admin._ask(
                "PATCH", f"/inboxes/{self.inbox}", json={"name": f"Web {new_id()[-8:]}"}, headers={"If-Match": "*"}
            ),
            *(admin.delete(f"/teams/{team['id']}") for team in teams),
        )

    async def _statuses(self) -> None:
        """People go away for a moment, and come back by themselves."""
        until = (now() + timedelta(seconds=3)).isoformat()
        await asyncio.gather(
            *(person.api.put("/presence/me", {"state": "busy", "until": until}) for person in self.idle)
        )

    async def _sockets(self) -> None:
        """Somebody's console is open for a while, and gone."""
        person = self.random.choice(self.idle)
        ticket = await person.api.post("/socket/tickets")
        address = self.stack.edge_url.replace("http://", "ws://")
        # The library's own time-outs: cancelled from outside while it says goodbye, it leaves the connection open.
        async with open_socket(
            f"{address}/api/v1/socket?ticket={ticket['ticket']}",
            proxy=None,
            open_timeout=SOCKET_SECONDS,
            close_timeout=SOCKET_SECONDS,
        ) as socket:
            await socket.send('{"type": "ping"}')
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOCKET_SECONDS):
                    async for _ in socket:
                        pass

    async def _by_hand(self) -> None:
        """An agent asks a colleague, then hands a conversation over."""
        person = self.random.choice(self.answering)
        page = await person.api.get("/conversations", status="open", limit=20)
        for conversation in self.random.sample(page["items"], min(2, len(page["items"]))):
            other = self.random.choice(self.idle).id
            where = f"/conversations/{conversation['id']}"
            note = {"text": "¿Lo miras?", "private": True, "mentions": [f"agent:{other}"]}
            await person.api.post(f"{where}/messages", note)
            await person.api.post(f"{where}/assignment", {"assignee_id": other})

    async def _put_off(self) -> None:
        """Somebody snoozes a conversation for a moment."""
        person = self.random.choice(self.answering)
        page = await person.api.get("/conversations", status="open", limit=20)
        for conversation in self.random.sample(page["items"], min(1, len(page["items"]))):
            soon = now() + timedelta(seconds=0.3)
            await person.api.post(f"/conversations/{conversation['id']}/snooze", {"until": soon.isoformat()})

    async def _by_webhook(self) -> None:
        """Somebody answers where replies leave by the webhook; with a key, who sees what waits for an agent too."""
        admin = self.account.admin
        page = await admin.get("/conversations", inbox=self.inbox, limit=10)
        for conversation in self.random.sample(page["items"], min(1, len(page["items"]))):
            reply = await admin.post(f"/conversations/{conversation['id']}/messages", {"text": "Por webhook"})
            self.ledger.replies.add(reply["id"])
            self.ledger.hooked_replies.add(reply["id"])

    @asynccontextmanager
    async def _client(self, creds: Any, name: str) -> AsyncIterator[Client]:
        async def ignore(_: Exception) -> None:
            return

        client = await nats.connect(
            self.stack.nats_url,
            user_credentials=str(creds),
            inbox_prefix=inbox_prefix(name),
            error_cb=ignore,
            max_reconnect_attempts=1,
        )
        try:
            yield client
        finally:
            await client.close()

    async def _put(self, client: Client, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Publish one, and hear that it is stored."""
        answer = json.loads((await client.request(subject, body, timeout=ACK_SECONDS, headers=headers)).data)
        if "error" in answer:
            raise TimeoutError(str(answer["error"]))

    async def _faulty(self) -> None:
        """Bodies that are no events, and the same good event once more with an id of its own."""
        creds = self.account.adapter_creds
        async with self._client(creds, credential_id(creds)) as client:
            subject = INBOUND.subject(
                account=self.account.id, inbox=self.account.inbox_id, sender=sender_key("bad"), kind="message"
            )
            for _ in range(AT_ONCE):
                body = f'{{"kind": "message", "{new_id()}'
                await _promised(self.ledger.faulty, body, self._put(client, subject, body.encode()))
            early = list(itertools.islice(self.ledger.tried, 500))
            for external in self.random.sample(early, min(3, len(early))):
                sender, _ = self.ledger.tried[external]
                if external in self.ledger.taken and sender not in self.ledger.elsewhere:
                    again = INBOUND.subject(
                        account=self.account.id, inbox=self.account.inbox_id, sender=sender_key(sender), kind="message"
                    )
                    body = message(external, sender, "Repetido").model_dump_json(exclude_none=True)
                    await self._put(client, again, body.encode(), {"Nats-Msg-Id": new_id()})

    async def _poison(self) -> None:
        """Heartbeats that no version of presence could read."""
        async with self._client(self.stack.home / "secrets" / "realtime.creds", "realtime") as client:
            for _ in range(2):
                event, agent = new_id(), new_id()
                headers = {
                    "ce-id": event,
                    "ce-type": "relevo.presence.heartbeat.v1",
                    "ce-source": "relevo/realtime",
                    "ce-subject": agent,
                    "ce-time": now().isoformat(),
                    "relevo-account": self.account.id,
                    "Nats-Msg-Id": event,
                }
                subject = CMD_PRESENCE.subject(
                    sender="realtime", account=self.account.id, entity=agent, command="heartbeat"
                )
                await _promised(self.ledger.poison, event, self._put(client, subject, b'{"agent_id": 7}', headers))

    async def _rotate(self) -> None:
        """A new credential takes over, and is revoked: what it published counts, and it publishes nothing more."""
        admin, account = self.account.admin, self.account
        made = await admin.post("/adapter-credentials", {"inbox_id": account.inbox_id, "name": "de paso"})
        creds = account.stack.folder / f"{new_id()}.creds"
        creds.write_text(made["credentials"])
        try:
            async with Adapter(self.stack.nats_url, creds, account.id, account.inbox_id, spool=None) as adapter:
                for _ in range(3):
                    self._numbers["r"] += 1
                    external = f"r-{self._numbers['r']}"
                    self.ledger.tried[external] = ("r", self._numbers["r"])
                    async with asyncio.timeout(20):
                        await adapter.publish(message(external, "r", "Con otra credencial"))
                    self.ledger.took(external)
        finally:
            await admin.delete(f"/adapter-credentials/{made['id']}")
            creds.unlink()


async def _promised(promise: Promised, marker: str, sending: Awaitable[None]) -> None:
    promise.tried.add(marker)
    await sending
    promise.taken.add(marker)
