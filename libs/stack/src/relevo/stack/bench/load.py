"""The load generator, a process of its own: customers' messages over NATS with an adapter's credential, open loop.

Open loop: message n is due at n / rate after the start, whether the system keeps up or not, and carries the moment at
which it was due as its time. What waits in front of a slow system counts as latency, also when it waits in here.
"""

import asyncio
import json
import os
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from relevo.contracts.base import new_id
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key
from relevo.stack.bench import worker
from relevo.stack.bench.figures import Scenario, due_by, is_first, is_matched

_WINDOW = 4096
"""Messages that the broker has not acknowledged yet."""
_ACK_SECONDS = 20.0
_REPORT_SECONDS = 0.2
MATCHING = (
    "El pedido llegó con una avería, ¿pueden mirarlo? Es el número 48213, lo pagué con tarjeta ayer por la tarde."
)
OTHER = (
    "Hola, quería saber cuándo llega mi pedido número 48213; lo hice ayer por la tarde y pagué con tarjeta. Gracias."
)


class Contacts:
    """The contacts that have written, and what is on the wire of each."""

    def __init__(self, account_id: str, inbox_id: str, seed: int = 1) -> None:
        self._account = account_id
        self._inbox = inbox_id
        self._random = random.Random(seed)
        self._mark = new_id()[-12:]
        self._senders: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self._senders)

    def pick(self, scenario: Scenario, number: int) -> tuple[str, str, str]:
        """The id, subject and key of who writes message ``number``: a new contact or one of those that are there."""
        if self._senders and not is_first(scenario, number):
            return self._random.choice(self._senders)
        sender = f"bench-{self._mark}-{len(self._senders)}"
        key = sender_key(sender)
        made = sender, INBOUND.subject(account=self._account, inbox=self._inbox, sender=key, kind="message"), key
        self._senders.append(made)
        return made


def body(external_id: str, sender: str, text: str, at: str) -> bytes:
    """An InboundMessage on the wire."""
    return json.dumps(
        {
            "kind": "message",
            "external_id": external_id,
            "sender": {"id": sender, "name": f"Cliente {sender[-6:]}", "language": "es"},
            "content": {"text": text},
            "occurred_at": at,
        },
        ensure_ascii=False,
    ).encode()


class Loader:
    """Publishes, counts acknowledgements, says how far behind its own schedule it was."""

    def __init__(self, client: Client, contacts: Contacts, account_id: str, credential: str) -> None:
        self._client = client
        self._contacts = contacts
        self._account = account_id
        self._source = f"adapter/{credential}"
        self._acks = client.new_inbox()
        self._acked = 0
        self._refused: list[str] = []
        self._sent = 0
        self._room = asyncio.Event()
        self.stopped = False

    async def listen(self) -> None:
        """Take acknowledgements."""
        await self._client.subscribe(self._acks, cb=self._on_ack, pending_msgs_limit=-1, pending_bytes_limit=-1)

    async def _on_ack(self, message: Msg) -> None:
        if b'"error"' in message.data:
            self._refused.append(message.data.decode(errors="replace")[:200])
        self._acked += 1
        self._room.set()

    async def run(self, scenario: Scenario, rate: float, total: int) -> dict[str, Any]:
        """Publish ``total`` messages at ``rate`` a second, or until told to stop; answers what happened."""
        self._acked = self._sent = 0
        self._refused = []
        self.stopped = False
        mark = new_id()[-12:]
        cpu = time.process_time()
        began, began_wall = time.monotonic(), time.time()
        slip = 0.0
        reported = began
        while self._sent < total and not self.stopped:
            elapsed = time.monotonic() - began
            for number in range(self._sent, due_by(elapsed, rate, total)):
                if number - self._acked >= _WINDOW:
                    self._room.clear()
                    await self._room.wait()
                due = number / rate
                slip = max(slip, time.monotonic() - began - due)
                await self._publish(scenario, number, f"{mark}-{number}", began_wall + due)
                self._sent = number + 1
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                worker.report(sent=self._sent, acked=self._acked)
            await asyncio.sleep(max(self._sent / rate - (time.monotonic() - began), 0.0005))
        ended = time.time()
        await self._acknowledged()
        return {
            "sent": self._sent,
            "unacknowledged": self._sent - self._acked,
            "refused": len(self._refused),
            "refusal": self._refused[0] if self._refused else "",
            "began": began_wall,
            "ended": ended,
            "slip": slip,
            "cpu": time.process_time() - cpu,
            "contacts": len(self._contacts),
        }

    async def _publish(self, scenario: Scenario, number: int, external_id: str, due: float) -> None:
        sender, subject, key = self._contacts.pick(scenario, number)
        at = datetime.fromtimestamp(due, UTC).isoformat(timespec="microseconds")
        headers = {
            MESSAGE_ID: external_id,
            "ce-specversion": "1.0",
            "ce-id": external_id,
            "ce-type": "relevo.inbound.message.v1",
            "ce-source": self._source,
            "ce-subject": key,
            "ce-time": at,
            "relevo-account": self._account,
        }
        text = MATCHING if is_matched(number) else OTHER
        await self._client.publish(subject, body(external_id, sender, text, at), reply=self._acks, headers=headers)

    async def _acknowledged(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_ACK_SECONDS):
                while self._acked < self._sent:
                    self._room.clear()
                    await self._room.wait()


async def main() -> None:
    """Told first where to publish, then what."""
    told = worker.commands()
    where = await anext(told)
    client = await nats.connect(
        where["nats_url"],
        user_credentials=where["credentials"],
        inbox_prefix=inbox_prefix(where["credential"]),
        pending_size=64 * 1024 * 1024,
    )
    contacts = Contacts(where["account_id"], where["inbox_id"])
    loader = Loader(client, contacts, where["account_id"], where["credential"])
    await loader.listen()
    worker.answer(pid=os.getpid())
    running: asyncio.Task[None] | None = None

    async def one(scenario: Scenario, rate: float, total: int) -> None:
        worker.answer(**await loader.run(scenario, rate, total))

    async for command in told:
        if command["do"] == "stop":
            loader.stopped = True
        else:
            running = asyncio.create_task(one(command["scenario"], command["rate"], command["total"]))
    if running:
        running.cancel()
    await client.close()


if __name__ == "__main__":
    worker.run(main)
