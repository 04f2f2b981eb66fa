"""Play conversations: customers write through the adapter's credential, agents answer over HTTP."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from relevo.adapter import Adapter
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import OutboundMessage
from relevo.contracts.inbound import Content, InboundMessage, Sender
from relevo.stack.api import Api, Refused
from relevo.stack.keys import write_secret
from relevo.stack.replay.source import Recorded, Turn

_AT_ONCE = 24
_UNAUTHORISED = 401
_SLOWEST_LOOK = 1.0
STORED_WITHIN = 60.0
"""Seconds within which a published message must be readable; beyond it, it counts as lost."""


@dataclass
class Played:
    """What the player itself did and saw of one conversation; the count is made from these and nothing else."""

    recorded: Recorded
    source_id: str
    conversation_id: str | None = None
    published: dict[str, int] = field(default_factory=dict)
    """External id of a customer's message → its turn; acknowledged by the bus."""
    answered: dict[str, int] = field(default_factory=dict)
    """Our message id of an agent's reply → its turn; acknowledged by HTTP."""
    problem: str | None = None


@dataclass
class Run:
    """One replay: everything that was played, and what the adapter was handed."""

    id: str
    started: datetime
    played: list[Played]
    delivered: dict[str, int] = field(default_factory=dict)
    """Message id → how often the adapter was handed it."""


class Agents:
    """People of the team, signed in and available; a token that ends is renewed."""

    def __init__(self, edge_url: str, people: Sequence[dict[str, str]]) -> None:
        self._edge_url = edge_url
        self._people = list(people)
        self._apis: dict[str, Api] = {}

    async def __aenter__(self) -> Self:
        for person in self._people:
            await self._sign_in(person)
            await self._apis[person["id"]].put("/presence/me", {"state": "available"})
        return self

    async def __aexit__(self, *_: object) -> None:
        for api in self._apis.values():
            await api.close()

    async def _sign_in(self, person: dict[str, str]) -> None:
        async with Api(self._edge_url) as api:
            session = await api.post("/sessions", {"email": person["email"], "password": person["password"]})
        old = self._apis.get(person["id"])
        self._apis[person["id"]] = Api(self._edge_url, session["access_token"], patience_seconds=STORED_WITHIN)
        if old:
            await old.close()

    def one(self, assignee: str | None, number: int) -> dict[str, str]:
        """The assignee where it is one of ours, else each in turn."""
        for person in self._people:
            if person["id"] == assignee:
                return person
        return self._people[number % len(self._people)]

    async def post(self, person: dict[str, str], path: str, body: Any, key: str) -> Any:
        """Post as a person. Raises Refused."""
        try:
            return await self._apis[person["id"]].post(path, body, key=key)
        except Refused as refusal:
            if refusal.status != _UNAUTHORISED:
                raise
        await self._sign_in(person)
        return await self._apis[person["id"]].post(path, body, key=key)


@asynccontextmanager
async def own_credentials(connection: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The connection with an adapter's and a metrics consumer's credentials of our own, revoked at the end.

    Two programs with one credential would share its outbound messages between them.
    """
    async with Api(connection["edge_url"], connection["api_token"]) as api:
        adapter = await api.post(
            "/adapter-credentials", {"inbox_id": connection["adapter"]["inbox_id"], "name": "replay"}
        )
        metrics = await api.post("/metrics-credentials", {"name": "replay"})
        try:
            with tempfile.TemporaryDirectory(prefix="relevo-replay-") as folder:
                files = {}
                for kind, issued in (("adapter", adapter), ("metrics", metrics)):
                    files[kind] = write_secret(Path(folder) / f"{kind}.creds", issued["credentials"])
                yield {
                    **connection,
                    "adapter": {**connection["adapter"], "key": adapter["key"], "credentials": str(files["adapter"])},
                    "metrics": {"credentials": str(files["metrics"])},
                }
        finally:
            await api.delete(f"/adapter-credentials/{adapter['id']}")
            await api.delete(f"/metrics-credentials/{metrics['id']}")


class Player:
    """Plays conversations side by side, each in its own order: a turn is said when the one before it can be read."""

    def __init__(
        self,
        connection: dict[str, Any],
        *,
        speed: float | None,
        agents: Sequence[dict[str, str]],
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._where = connection
        self._inbox_id: str = connection["adapter"]["inbox_id"]
        self._speed = speed
        self._progress = progress
        self._runs: dict[str, Run] = {}
        self._opened = AsyncExitStack()
        self._agents = Agents(connection["edge_url"], agents)
        self._reader = Api(connection["edge_url"], connection["api_token"], patience_seconds=STORED_WITHIN)
        self._adapter = Adapter(
            connection["nats_url"],
            connection["adapter"]["credentials"],
            connection["account_id"],
            self._inbox_id,
            spool=None,
            connect_timeout=STORED_WITHIN,
        )
        self._adapter.on_outbound(self._take)

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._agents)
        await self._opened.enter_async_context(self._reader)
        await self._opened.enter_async_context(self._adapter)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def _take(self, message: OutboundMessage) -> None:
        run = self._runs.get(message.recipient_id.partition("-")[0])
        if run is not None:
            run.delivered[message.message_id] = run.delivered.get(message.message_id, 0) + 1
            await self._adapter.report(message.message_id, "delivered", recipient_id=message.recipient_id)

    async def play(self, conversations: Sequence[Recorded]) -> Run:
        """Play them all. ``progress`` is told of every turn that was said."""
        run_id = new_id()[-12:]
        run = Run(run_id, now() - timedelta(seconds=1), [Played(c, f"{run_id}-{c.id}") for c in conversations])
        self._runs[run_id] = run
        places = asyncio.Semaphore(_AT_ONCE if self._speed is None else len(run.played))

        async def one(number: int, played: Played) -> None:
            async with places:
                try:
                    await self._conversation(played, number)
                except Refused as refusal:
                    played.problem = str(refusal)

        await asyncio.gather(*(one(number, played) for number, played in enumerate(run.played)))
        await self._outbound_arrived(run)
        return run

    async def _conversation(self, played: Played, number: int) -> None:
        began = asyncio.get_running_loop().time()
        for turn in played.recorded.turns:
            if self._speed is not None:
                await asyncio.sleep(max(began + turn.offset / self._speed - asyncio.get_running_loop().time(), 0))
            if turn.role == "customer":
                await self._customer(played, turn)
            else:
                await self._agent(played, turn, number)
            self._progress(1)
        person = self._agents.one(None, number)
        await self._agents.post(
            person, f"/conversations/{played.conversation_id}/resolve", None, f"{played.source_id}-end"
        )

    async def _customer(self, played: Played, turn: Turn) -> None:
        external_id = f"{played.source_id}-{turn.number}"
        await self._adapter.publish(
            InboundMessage(
                kind="message",
                external_id=external_id,
                sender=Sender(
                    id=played.source_id, name=f"Cliente {played.recorded.id}", language=played.recorded.language
                ),
                content=Content(text=turn.text),
                occurred_at=now(),
            )
        )
        played.published[external_id] = turn.number
        await self._stored(played, external_id)

    async def _stored(self, played: Played, external_id: str) -> None:
        """Wait until the message can be read back: only then may the next turn be said by another door."""
        loop = asyncio.get_running_loop()
        end = loop.time() + STORED_WITHIN
        look = 0.03
        while True:
            await asyncio.sleep(look)
            if played.conversation_id is None:
                page = await self._reader.get("/conversations", inbox=self._inbox_id, source=played.source_id, limit=1)
                if page["items"]:
                    played.conversation_id = page["items"][0]["id"]
            if played.conversation_id is not None:
                page = await self._reader.get(
                    f"/conversations/{played.conversation_id}/messages", order="newest", limit=5
                )
                if any(message["external_id"] == external_id for message in page["items"]):
                    return
            if loop.time() > end:
                raise Refused(
                    0, "lost", f"{external_id} was acknowledged, but cannot be read {STORED_WITHIN:g} s later"
                )
            look = min(look * 1.6, _SLOWEST_LOOK)

    async def _agent(self, played: Played, turn: Turn, number: int) -> None:
        conversation = await self._reader.get(f"/conversations/{played.conversation_id}")
        person = self._agents.one(conversation["assignee_id"], number)
        message = await self._agents.post(
            person,
            f"/conversations/{played.conversation_id}/messages",
            {"text": turn.text},
            f"{played.source_id}-{turn.number}",
        )
        played.answered[message["id"]] = turn.number

    async def _outbound_arrived(self, run: Run) -> None:
        expected = {message for played in run.played for message in played.answered}
        loop = asyncio.get_running_loop()
        end = loop.time() + STORED_WITHIN
        while expected - run.delivered.keys() and loop.time() < end:  # noqa: ASYNC110  (bounded; a set, no event)
            await asyncio.sleep(0.1)
