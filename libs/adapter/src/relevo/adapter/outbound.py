"""Outbound messages: pulled from the adapter's own durable, acknowledged when the handler has done them.

At least once: a message comes again when its acknowledgement was lost. Those that this process has done already are
folded; hand ``message_id`` to the provider as idempotency key for the rest.
"""

import asyncio
import contextlib
import json
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from relevo.adapter.connection import Connection, end
from relevo.adapter.errors import AdapterError, Undeliverable
from relevo.contracts.base import new_id
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import OUTBOUND

log = logging.getLogger("relevo.adapter.outbound")

Handler = Callable[[OutboundMessage], Awaitable[str | None]]
"""Sends one message; may return the provider's id of it."""
UpdateHandler = Callable[[OutboundUpdate], Awaitable[None]]
"""Edits or deletes one message that was sent."""
Outbound = OutboundMessage | OutboundUpdate
Sent = Callable[[OutboundMessage, str], Awaitable[None]]
Failed = Callable[[Outbound, str], Awaitable[None]]

EXPIRES = 30.0
HEARTBEAT = 2.0
SILENCE = 5.0
_API_TIMEOUT = 5.0
_REMEMBERED = 10_000
_MAX_BACKOFF = 300.0


class _Renew(Exception):
    """The pull is gone: begin a new one. ``delay`` seconds of patience, for what does not mend by itself at once."""

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(delay)
        self.delay = delay


@dataclass(frozen=True, slots=True)
class Terms:
    """What the durable promises: seconds until an unacknowledged message comes again, and how often at most."""

    ack_wait: float = 30.0
    max_deliver: int = -1


class OutboundReader:
    """Pulls, hands out, acknowledges. Messages for one recipient are sent one after the other, in order."""

    def __init__(
        self,
        connection: Connection,
        durable: str,
        handler: Handler,
        *,
        sent: Sent,
        failed: Failed,
        concurrency: int,
        update: UpdateHandler | None = None,
    ) -> None:
        self._connection = connection
        self._durable = durable
        self._handler = handler
        self._sent = sent
        self._failed = failed
        self.update = update
        self._slots = asyncio.Semaphore(concurrency)
        self._window = concurrency * 2
        self._terms = Terms()
        self._terms_known = asyncio.Event()
        self._held: dict[str, Msg] = {}
        self._stopping = False
        self._lanes: dict[str, deque[tuple[Msg, Outbound]]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._done: OrderedDict[str, str | None] = OrderedDict()
        """Messages that were sent; with the provider's id while that is not reported yet."""

    async def run(self) -> None:
        """Until cancelled."""
        async with _beside(self._keep_alive()):
            while not self._stopping:
                await self._connection.up.wait()
                client = self._connection.client
                assert client is not None
                try:
                    await self._session(client)
                except _Renew as renew:
                    await asyncio.sleep(renew.delay)
                except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
                    log.warning("outbound: %r; pulling again", error)
                    await asyncio.sleep(1)

    def refuse(self) -> None:
        """Take no more messages."""
        self._stopping = True

    async def stop(self, grace: float) -> None:
        """Let handlers under way end, for ``grace`` seconds; give back what was not begun."""
        self.refuse()
        waiting = [message for lane in self._lanes.values() for message, _ in lane]
        self._lanes.clear()
        for message in waiting:
            await self._settle(message, message.nak())
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace)
        for worker in list(self._workers):
            await end(worker)

    async def _session(self, client: Client) -> None:
        self._terms = await self._ask_terms(client)
        self._terms_known.set()
        reply = f"{inbox_prefix(self._durable)}.{new_id()}"
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await client.subscribe(reply, cb=arrived.put)
        try:
            while not self._stopping:
                self._room.clear()
                free = self._window - len(self._held)
                if free <= 0:
                    await self._room.wait()
                    continue
                await self._pull(client, arrived, reply, free)
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                # Draining pings the broker, which must not come into the handshake of a new connection.
                if client.is_connected:
                    await subscription.drain()  # type: ignore[no-untyped-call]
                else:
                    await subscription.unsubscribe()
            while not arrived.empty():  # fetched, and nobody here begins it: it need not wait for its time to be over
                message = arrived.get_nowait()
                if _status(message) is None:
                    await self._settle(message, message.nak())

    async def _ask_terms(self, client: Client) -> Terms:
        subject = f"$JS.API.CONSUMER.INFO.{OUTBOUND.name}.{self._durable}"
        try:
            answer = json.loads((await client.request(subject, b"", timeout=_API_TIMEOUT)).data)
        except nats.errors.NoRespondersError:
            raise _Renew(5.0) from None
        if error := answer.get("error"):
            log.error("the durable %s: %s; is the credential still valid?", self._durable, error.get("description"))
            raise _Renew(15.0)
        config = answer["config"]
        return Terms(config.get("ack_wait", 30e9) / 1e9, config.get("max_deliver", -1))

    async def _pull(self, client: Client, arrived: asyncio.Queue[Msg], reply: str, count: int) -> None:
        """One pull request: returns when it is used up or has expired. Raises _Renew when it is lost."""
        ask = {"batch": count, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{OUTBOUND.name}.{self._durable}", json.dumps(ask).encode(), reply=reply
        )
        while count and not self._stopping:
            try:
                async with asyncio.timeout(SILENCE):
                    message = await arrived.get()
            except TimeoutError:
                raise _Renew from None
            status = _status(message)
            if status is None:
                count -= 1
                await self._take(message)
            elif status == "408":
                return
            elif status != "100":
                log.info("outbound pull: %s %s", status, (message.headers or {}).get("Description", ""))
                raise _Renew(1.0)

    async def _take(self, message: Msg) -> None:
        self._held[message.reply] = message
        try:
            outbound = _read(message)
        except ValidationError as unreadable:
            log.warning("an outbound message cannot be read (is this SDK older than Relevo?): %s", unreadable)
            await self._again(message)
            return
        lane = self._lanes.get(outbound.recipient_key)
        if lane is not None:
            lane.append((message, outbound))
            return
        self._lanes[outbound.recipient_key] = deque([(message, outbound)])
        worker = asyncio.create_task(self._work(outbound.recipient_key))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self, recipient: str) -> None:
        """Send what waits for one recipient, in order; after a failure the rest comes again behind it."""
        lane = self._lanes[recipient]
        while lane and not self._stopping:
            message, outbound = lane.popleft()
            async with self._slots:
                going_on = await self._hand_over(message, outbound)
            if not going_on:
                while lane:
                    later, _ = lane.popleft()
                    await self._again(later, at_least=_backoff(message.metadata.num_delivered))
        if self._lanes.get(recipient) is lane:
            del self._lanes[recipient]

    async def _hand_over(self, message: Msg, outbound: Outbound) -> bool:
        """Have the adapter do it, once; a change comes behind its message, as all of one recipient."""
        id_ = _id(outbound)
        if id_ in self._done:
            return await self._confirm(message, outbound)
        try:
            provider_id = await self._handle(outbound)
        except asyncio.CancelledError:
            await self._settle(message, message.nak())
            raise
        except Undeliverable as reason:
            return await self._fail(message, outbound, str(reason))
        except Exception as error:  # noqa: BLE001 — the handler is not ours
            delivered = message.metadata.num_delivered
            if 0 < self._terms.max_deliver <= delivered:
                return await self._fail(message, outbound, f"{type(error).__name__}: {error} (tried {delivered} times)")
            log.warning("%s %s did not get through, trial %d: %r", _kind(outbound), id_, delivered, error)
            await self._again(message)
            return False
        self._done[id_] = provider_id
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return await self._confirm(message, outbound)

    async def _handle(self, outbound: Outbound) -> str | None:
        if isinstance(outbound, OutboundMessage):
            return await self._handler(outbound)
        if self.update is None:
            raise Undeliverable("this adapter cannot change messages that were sent")
        await self.update(outbound)
        return None

    async def _confirm(self, message: Msg, outbound: Outbound) -> bool:
        """Report what was sent, then acknowledge; never send it again because the report did not get through."""
        provider_id = self._done[_id(outbound)]
        if provider_id is not None and isinstance(outbound, OutboundMessage):
            try:
                await self._sent(outbound, provider_id)
            except AdapterError as error:
                log.warning("that %s was sent could not be reported, trying again: %s", outbound.message_id, error)
                await self._again(message)
                return True
            self._done[outbound.message_id] = None
        await self._settle(message, message.ack())
        return True

    async def _fail(self, message: Msg, outbound: Outbound, reason: str) -> bool:
        try:
            await self._failed(outbound, reason)
        except AdapterError as error:
            log.warning("the failure of %s %s could not be reported: %s", _kind(outbound), _id(outbound), error)
            await self._again(message)
            return False
        await self._settle(message, message.ack())
        return True

    async def _again(self, message: Msg, at_least: float = 0.0) -> None:
        delay = max(_backoff(message.metadata.num_delivered), at_least)
        await self._settle(message, message.nak(delay=delay))

    async def _settle(self, message: Msg, answer: Awaitable[None]) -> None:
        """Answer the broker; if it is away, the message comes again by itself."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await answer
        self._held.pop(message.reply, None)
        self._room.set()

    async def _keep_alive(self) -> None:
        """Tell the broker about messages that take long, so that nobody gets them a second time."""
        await self._terms_known.wait()
        while True:
            await asyncio.sleep(max(self._terms.ack_wait / 3, 0.1))
            for message in list(self._held.values()):
                with contextlib.suppress(nats.errors.Error, OSError):
                    await message.in_progress()


def _read(message: Msg) -> Outbound:
    """What the broker brings, as its subject says."""
    if message.subject.rpartition(".")[2] == "update":
        return OutboundUpdate.model_validate_json(message.data)
    return OutboundMessage.model_validate_json(message.data)


def _kind(outbound: Outbound) -> str:
    return "change" if isinstance(outbound, OutboundUpdate) else "message"


def _id(outbound: Outbound) -> str:
    return outbound.change_id if isinstance(outbound, OutboundUpdate) else outbound.message_id


def _status(message: Msg) -> str | None:
    """What the broker says of a pull; None for a message."""
    return (message.headers or {}).get("Status")


def _backoff(delivered: int) -> float:
    """Seconds: 1, 2, 4, … up to five minutes."""
    return min(2.0 ** max(delivered - 1, 0), _MAX_BACKOFF)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end(task)
