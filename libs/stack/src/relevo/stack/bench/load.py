"""The load generator, a process of its own: customers' messages over NATS with adapters' credentials, open loop.

Open loop: message n is due at n / rate after the start, whether the system keeps up or not, and carries the moment at
which it was due as its time. What waits in front of a slow system counts as latency, also when it waits in here.
A message that is not acknowledged is published again, as an adapter does: with the same id.
"""

import asyncio
import json
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from relevo.contracts.base import new_id
from relevo.contracts.envelope import MESSAGE_ID
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key
from relevo.stack.bench import worker
from relevo.stack.bench.figures import Scenario, due_by, is_first, is_matched
from relevo.stack.bench.wire import Wire, frame_of

_WINDOW = 4096
"""Messages of one tenant that the broker has not acknowledged yet."""
_ACK_SECONDS = 60.0
_AGAIN_SECONDS = 3.0
_REPORT_SECONDS = 0.2
_TICK_SECONDS = 0.005
MATCHING = (
    "El pedido llegó con una avería, ¿pueden mirarlo? Es el número 48213, lo pagué con tarjeta ayer por la tarde."
)
OTHER = (
    "Hola, quería saber cuándo llega mi pedido número 48213; lo hice ayer por la tarde y pagué con tarjeta. Gracias."
)


class Contacts:
    """The contacts of one inbox that have written."""

    def __init__(self, account_id: str, inbox_id: str, seed: int = 1) -> None:
        self._account = account_id
        self._inbox = inbox_id
        self._random = random.Random(seed)
        self._mark = new_id()[-12:]
        self._senders: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self._senders)

    def pick(self, *, first: bool) -> tuple[str, str, str]:
        """The id, subject and key of who writes: a new contact or one of those that are there."""
        if not first:
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


@dataclass(frozen=True, slots=True)
class Message:
    """What was published; kept until it is acknowledged."""

    subject: str
    headers: dict[str, str]
    body: bytes
    sent: float


class Tenant:
    """One inbox of one account: its adapter's connection, its contacts, what the broker still owes an answer."""

    def __init__(self, url: str, told: dict[str, str]) -> None:
        self.contacts = Contacts(told["account_id"], told["inbox_id"])
        self.refusal = ""
        self.pending: dict[int, Message] = {}
        self.room = asyncio.Event()
        self._account = told["account_id"]
        self._source = f"adapter/{told['credential']}"
        self._wire = Wire(url, told["credential"], told["credentials"], self._on_ack)
        self._prefix = f"{self._wire.inbox}.".encode()
        self._number = 0
        self._unsent: list[bytes] = []

    async def open(self) -> None:
        await self._wire.open()

    async def close(self) -> None:
        await self._wire.close()

    def _on_ack(self, subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> None:
        if b'"error"' in payload or not payload:
            # Refused, or nobody there to take it: it stays pending, and is published again in a while.
            self.refusal = (payload or headers).decode(errors="replace")[:200]
            return
        self.pending.pop(int(subject[len(self._prefix) :]), None)
        self.room.set()

    def write(self, sender: tuple[str, str, str], text: str, external_id: str, due: float) -> Message:
        """Publish one message at the next flush."""
        name, subject, key = sender
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
        message = Message(subject, headers, body(external_id, name, text, at), time.monotonic())
        self.publish(message)
        return message

    def publish(self, message: Message) -> None:
        """Publish at the next flush."""
        self._number += 1
        self.pending[self._number] = message
        self._unsent.append(frame_of(message.subject, self._frame(self._number), message.body, message.headers))

    def flush(self) -> None:
        """What was written, on its way; what finds no connection stays pending."""
        if self._unsent:
            self._wire.send(b"".join(self._unsent))
            self._unsent.clear()

    def again(self) -> None:
        """Publish what has waited too long for its answer."""
        if not self._wire.connected.is_set():
            return
        late = time.monotonic() - _AGAIN_SECONDS
        for number, message in list(self.pending.items()):
            if message.sent < late:
                self.pending[number] = Message(message.subject, message.headers, message.body, time.monotonic())
                self._wire.send(frame_of(message.subject, self._frame(number), message.body, message.headers))

    def _frame(self, number: int) -> str:
        return f"{self._wire.inbox}.{number}"


@dataclass(slots=True)
class Lane:
    """A part of the load: so many messages at a rate, over some of the tenants."""

    tenants: list[Tenant]
    scenario: Scenario
    rate: float
    total: int
    sent: int = 0
    firsts: int = 0
    matched: int = 0
    slip: float = 0.0
    ended: float = 0.0
    kept: list[tuple[Tenant, Message]] | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def tenant(self, number: int, *, first: bool) -> Tenant:
        """Whose message it is. New contacts go round, so that every tenant has some."""
        return self.tenants[number % len(self.tenants)] if first else self.chance.choice(self.tenants)


class Loader:
    """Publishes, counts acknowledgements, says how far behind its own schedule it was."""

    def __init__(self, tenants: list[Tenant]) -> None:
        self._tenants = tenants
        self._kept: list[tuple[Tenant, Message]] = []
        self._mark = ""
        self._began = 0.0
        self._began_wall = 0.0
        self.stopped = False

    async def run(self, lanes: list[Lane], *, keep: bool) -> dict[str, Any]:
        """Publish each lane's messages at its rate, or until told to stop; answers what happened, lane by lane.

        ``keep``: remember the messages, so that `repeat` can send them again.
        """
        self._mark = new_id()[-12:]
        if keep:
            self._kept = []
            for lane in lanes:
                lane.kept = self._kept
        return await self._timed(lanes, [self._lane(number, lane) for number, lane in enumerate(lanes)])

    async def repeat(self, rate: float) -> dict[str, Any]:
        """Publish what was kept once more; to the broker they are new messages, to the platform they are not."""
        mark = new_id()[-6:]
        lane = Lane([], "S6", rate, len(self._kept))

        def one(number: int, _due: float) -> Tenant:
            tenant, message = self._kept[number]
            headers = {**message.headers, MESSAGE_ID: f"{message.headers[MESSAGE_ID]}-{mark}"}
            tenant.publish(Message(message.subject, headers, message.body, time.monotonic()))
            return tenant

        return await self._timed([lane], [self._paced(lane, one)])

    async def _timed(self, lanes: list[Lane], work: list[Any]) -> dict[str, Any]:
        self.stopped = False
        cpu = time.process_time()
        self._began, self._began_wall = time.monotonic(), time.time()
        beside = asyncio.create_task(self._beside(lanes))
        try:
            await asyncio.gather(*work)
            await self._acknowledged()
        finally:
            beside.cancel()
        return {
            "cpu": time.process_time() - cpu,
            "lanes": [
                {
                    "sent": lane.sent,
                    "firsts": lane.firsts,
                    "matched": lane.matched,
                    "unacknowledged": sum(len(tenant.pending) for tenant in lane.tenants),
                    "refusal": next((tenant.refusal for tenant in lane.tenants if tenant.pending), ""),
                    "began": self._began_wall,
                    "ended": lane.ended,
                    "slip": lane.slip,
                }
                for lane in lanes
            ],
        }

    async def _lane(self, index: int, lane: Lane) -> None:
        def one(number: int, due: float) -> Tenant:
            first, matching = is_first(lane.scenario, number), is_matched(number)
            tenant = lane.tenant(number, first=first)
            # A tenant nobody has written to yet gets a first message whatever the number says.
            first = first or not len(tenant.contacts)
            message = tenant.write(
                tenant.contacts.pick(first=first),
                MATCHING if matching else OTHER,
                f"{self._mark}-{index}-{number}",
                self._began_wall + due,
            )
            lane.firsts += first
            lane.matched += matching
            if lane.kept is not None:
                lane.kept.append((tenant, message))
            return tenant

        await self._paced(lane, one)

    async def _paced(self, lane: Lane, one: Any) -> None:
        while lane.sent < lane.total and not self.stopped:
            touched: set[Tenant] = set()
            for number in range(lane.sent, due_by(time.monotonic() - self._began, lane.rate, lane.total)):
                due = number / lane.rate
                lane.slip = max(lane.slip, time.monotonic() - self._began - due)
                tenant: Tenant = one(number, due)
                touched.add(tenant)
                lane.sent = number + 1
                if len(tenant.pending) >= _WINDOW:
                    tenant.flush()
                    await self._room(tenant)
            for tenant in touched:
                tenant.flush()
            await asyncio.sleep(max(lane.sent / lane.rate - (time.monotonic() - self._began), _TICK_SECONDS))
        lane.ended = time.time()

    async def _room(self, tenant: Tenant) -> None:
        while len(tenant.pending) >= _WINDOW and not self.stopped:
            tenant.room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await tenant.room.wait()

    async def _beside(self, lanes: list[Lane]) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            worker.report(sent=[lane.sent for lane in lanes])
            for tenant in self._tenants:
                tenant.again()

    async def _acknowledged(self) -> None:
        end = time.monotonic() + _ACK_SECONDS
        while any(one.pending for one in self._tenants) and time.monotonic() < end:  # noqa: ASYNC110  (once a run)
            await asyncio.sleep(0.02)


async def main() -> None:
    """Told first where to publish and for whom, then what."""
    told = worker.commands()
    where = await anext(told)
    tenants = [Tenant(where["nats_url"], tenant) for tenant in where["tenants"]]
    for tenant in tenants:
        await tenant.open()
    loader = Loader(tenants)
    worker.answer(pid=os.getpid())
    running: set[asyncio.Task[None]] = set()

    async def answered(work: Any) -> None:
        worker.answer(**await work)

    async for command in told:
        if command["do"] == "stop":
            loader.stopped = True
            continue
        if command["do"] == "repeat":
            work = loader.repeat(command["rate"])
        else:
            lanes = [
                Lane([tenants[i] for i in lane["tenants"]], lane["scenario"], lane["rate"], lane["total"])
                for lane in command["lanes"]
            ]
            work = loader.run(lanes, keep=command["keep"])
        running = {asyncio.create_task(answered(work))}
    for task in running:
        task.cancel()
    for tenant in tenants:
        await tenant.close()


if __name__ == "__main__":
    worker.run(main)
