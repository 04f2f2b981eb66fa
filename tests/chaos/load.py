"""Customers and agents: a paced load through the public interfaces, noting in the ledger what was promised."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from chaos.checker import Ledger
from whole_stack import Account, Person, message

from relevo.adapter import Adapter, OutboundMessage
from relevo.stack.api import Refused

MOST_UNDER_WAY = 20_000
TRIGGERING = 20
"""One message of so many says what the rule looks for."""
ANSWERING_SECONDS = 1.0
RULE = {
    "name": "Devoluciones",
    "trigger": "message_received",
    "conditions": {"field": "message.text", "operator": "any_word", "value": ["devolución"]},
    "actions": [{"type": "add_labels", "labels": ["devolución"]}],
}


@dataclass
class Load:
    """``rate`` messages a second from ``senders`` people, open loop: a slow system does not slow the customers."""

    account: Account
    senders: int
    rate: float
    random: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    triggering: bool = False
    """Whether the account has RULE, so that some messages ask for it."""
    hooked_inbox: str = ""
    """The inbox whose replies leave by webhook."""
    latencies: list[float] = field(default_factory=list)
    resolved: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    prefix: str = "c"

    async def run(self, enough: asyncio.Event) -> None:
        """Send until it is enough; returns when everything sent was acknowledged."""
        async with self.listening() as adapter:
            agents = [asyncio.create_task(self._answer(person)) for person in self.account.people]
            try:
                await self._send(adapter, enough)
            finally:
                for agent in agents:
                    agent.cancel()
                await asyncio.gather(*agents, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def listening(self):
        """The adapter takes what is on its way out."""
        adapter = self.account.adapter(connect_timeout=30)
        adapter.on_outbound(self._hand)
        async with adapter:
            yield adapter

    async def _hand(self, message: OutboundMessage) -> str:
        self.ledger.handed[message.message_id] += 1
        return f"provider-{message.message_id}"

    async def _send(self, adapter: Adapter, enough: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        numbers: dict[str, int] = {}
        under_way: set[asyncio.Task[None]] = set()
        sent = 0
        while not enough.is_set():
            due = int((loop.time() - began) * self.rate)
            while sent < due and len(under_way) < MOST_UNDER_WAY:
                sender = f"{self.prefix}{self.random.randrange(self.senders)}"
                number = numbers[sender] = numbers.get(sender, 0) + 1
                task = asyncio.create_task(
                    self._one(adapter, sender, number, triggering=self.triggering and sent % TRIGGERING == 0)
                )
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent += 1
            await asyncio.sleep(0.01)
        self.seconds = loop.time() - began
        async with asyncio.timeout(120):
            await asyncio.gather(*under_way)

    async def _one(self, adapter: Adapter, sender: str, number: int, *, triggering: bool) -> None:
        external = f"{sender}-{number}"
        self.ledger.tried[external] = (sender, number)
        if triggering:
            self.ledger.triggering.add(external)
        began = time.perf_counter()
        await adapter.publish(message(external, sender, f"Mensaje {number}{' de devolucion' if triggering else ''}"))
        self.latencies.append(time.perf_counter() - began)
        self.ledger.took(external)

    async def _answer(self, person: Person) -> None:
        """An agent answers and resolves, so that places become free and conversations come back."""
        while True:
            try:
                page = await person.api.get("/conversations", assignee="me", status="open", limit=4)
                for conversation in page["items"]:
                    where = f"/conversations/{conversation['id']}"
                    reply = await person.api.post(f"{where}/messages", {"text": "Un momento, por favor"})
                    self.ledger.replies.add(reply["id"])
                    if conversation["inbox_id"] == self.hooked_inbox:
                        self.ledger.hooked_replies.add(reply["id"])
                    await person.api.post(f"{where}/resolve")
                    self.resolved += 1
            except Refused as refused:  # it did not happen, or is not known to have: nothing is promised then
                self.refused[f"{refused.status} {refused.code}"] += 1
            await asyncio.sleep(ANSWERING_SECONDS)
