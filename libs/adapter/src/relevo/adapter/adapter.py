"""The adapter: one inbox of one account, over one credential."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from relevo.adapter.connection import BusAway, Connection, end
from relevo.adapter.credential import credential_id
from relevo.adapter.errors import AdapterError, Closed, NotAuthorized, PartlyPublished, TooLarge
from relevo.adapter.outbound import Handler, Outbound, OutboundReader, UpdateHandler
from relevo.adapter.spool import Record, Spool
from relevo.contracts.base import now
from relevo.contracts.conversation import OutboundMessage
from relevo.contracts.envelope import Envelope
from relevo.contracts.inbound import DeliveryStatus, InboundMessage, InboundStatus, Sender
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key

log = logging.getLogger("relevo.adapter")

WINDOW = 256
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """An event is safe: on the bus, or ``spooled`` on this machine's disk until the bus is back.

    ``duplicate``: the bus had it already. (Ingest knows repetitions for ever, the bus for two minutes.)
    """

    spooled: bool = False
    duplicate: bool = False


class Adapter:
    """Publishes what a channel brings for one inbox, and sends what agents write there.

    ``credentials`` is the .creds file that Relevo issued; its name is the credential's id unless ``credential`` says
    otherwise. ``spool`` is a folder for events that the bus cannot take now (None: `publish` waits instead); at most
    ``spool_bytes`` are kept there. ``concurrency`` handlers run at a time. Use within ``async with``, which waits up
    to ``connect_timeout`` seconds for the bus and goes on without it after that.
    """

    def __init__(
        self,
        servers: str | list[str],
        credentials: str | Path,
        account_id: str,
        inbox_id: str,
        *,
        credential: str | None = None,
        spool: str | Path | None = "relevo-spool",
        spool_bytes: int = 64 * 1024 * 1024,
        concurrency: int = 16,
        connect_timeout: float = 5.0,
        grace: float = 10.0,
    ) -> None:
        path = Path(credentials)
        self.account_id = account_id
        self.inbox_id = inbox_id
        self.credential = credential or credential_id(path)
        self._connection = Connection([servers] if isinstance(servers, str) else servers, path, self.credential)
        self._spool = Spool(Path(spool) / f"{inbox_id}.jsonl", spool_bytes) if spool is not None else None
        self._concurrency = concurrency
        self._connect_timeout = connect_timeout
        self._grace = grace
        self._handler: Handler | None = None
        self._update: UpdateHandler | None = None
        self._reader: OutboundReader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lanes: dict[str, tuple[asyncio.Lock, int]] = {}
        self._replay = asyncio.Event()
        self._open = False

    @property
    def connected(self) -> bool:
        """Whether the bus is there now."""
        return self._connection.up.is_set()

    @property
    def spooled(self) -> int:
        """How many events wait on disk for the bus."""
        return self._spool.pending if self._spool else 0

    async def __aenter__(self) -> Self:
        """Raises NotAuthorized, SpoolUnusable. A bus that is away is no error when there is a spool."""
        if self._spool:
            self._spool.open()
        self._open = True
        self._connection.on_up(self._replay.set)
        self._connection.open()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._connection.up.wait()
        except TimeoutError:
            if self._connection.refused:
                await self.close()
                raise NotAuthorized(
                    f"the bus refused the credential {self.credential}: {self._connection.refused}"
                ) from None
            log.warning("the bus is away; going on, and connecting as soon as it is there")
        if self._spool:
            self._tasks.append(asyncio.create_task(self._replay_spool(self._spool), name="adapter spool"))
        if self._handler:
            self._start_reader(self._handler)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the handlers under way, close the connection. What is spooled stays for the next run."""
        self._open = False
        if self._reader:
            self._reader.refuse()
        for task in self._tasks:
            await end(task)
        self._tasks.clear()
        if self._reader:
            # Their reports still go out: publishing ends with the connection.
            await self._reader.stop(self._grace)
            self._reader = None
        await self._connection.close()
        if self._spool:
            await self._spool.close()

    async def wait(self) -> None:
        """Until cancelled: for a program that does nothing but adapt."""
        await asyncio.Event().wait()

    def on_outbound(self, handler: Handler) -> Handler:
        """Decorate the coroutine that sends one message. Returning the provider's id of it reports it as sent.

        An exception means: try again later, with growing delays. Raise Undeliverable to report it as failed.
        """
        if self._handler is not None:
            raise ValueError("an adapter has one outbound handler")
        self._handler = handler
        if self._open:
            self._start_reader(handler)
        return handler

    def on_update(self, handler: UpdateHandler) -> UpdateHandler:
        """Decorate the coroutine that edits or deletes one message that was sent (`of_message_id`, `update`, `new_text`).

        Without one every change is reported as refused. An exception means: try again later; raise Undeliverable to say
        that the channel refuses: the conversation shows it. Say in the inbox's `changes` what the channel can do.
        """
        if self._update is not None:
            raise ValueError("an adapter has one handler of updates")
        self._update = handler
        if self._reader:
            self._reader.update = handler
        return handler

    async def publish(self, event: InboundMessage | InboundStatus) -> Receipt:
        """Publish one event; returns when it is safe: acknowledged by the bus, or in the spool.

        Events of one sender leave in the order of the calls. Raises SpoolFull, SpoolUnusable, TooLarge, Closed: then
        the event was not taken, and the provider should be made to send it again.
        """
        if not self._open:
            raise Closed("open the adapter first: async with adapter: …")
        return await self._publish(event)

    async def publish_many(
        self, events: Iterable[InboundMessage | InboundStatus] | AsyncIterable[InboundMessage | InboundStatus]
    ) -> list[Receipt]:
        """Publish many, at most WINDOW of them at a time; one receipt each, in order.

        Raises PartlyPublished when some were not taken; all the others were.
        """
        window = asyncio.Semaphore(WINDOW)
        tasks: list[asyncio.Task[Receipt]] = []
        async for event in _each(events):
            await window.acquire()
            task = asyncio.create_task(self.publish(event))
            task.add_done_callback(lambda _: window.release())
            tasks.append(task)
        receipts: list[Receipt] = []
        failures: dict[int, AdapterError] = {}
        for index, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if isinstance(result, AdapterError):
                failures[index] = result
            elif isinstance(result, BaseException):
                raise result
            else:
                receipts.append(result)
        if failures:
            raise PartlyPublished(failures)
        return receipts

    async def report(
        self,
        message_id: str,
        status: DeliveryStatus,
        *,
        recipient_id: str,
        external_id: str | None = None,
        error: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Receipt:
        """Report what became of an outbound message: sent, delivered, read, or failed with the provider's ``error``.

        ``external_id`` is the provider's id of the message, if there is one. Raises as `publish` does.
        """
        if not self._open:
            raise Closed("open the adapter first: async with adapter: …")
        return await self._publish(
            _status(
                message_id,
                status,
                recipient_id=recipient_id,
                external_id=external_id,
                error=error,
                occurred_at=occurred_at,
            )
        )

    async def _publish(self, event: InboundMessage | InboundStatus) -> Receipt:
        record = self._record(event)
        async with self._turn(record.lane):
            return await self._deliver(record)

    def _start_reader(self, handler: Handler) -> None:
        async def sent(message: OutboundMessage, provider_id: str) -> None:
            await self._publish(
                _status(message.message_id, "sent", recipient_id=message.recipient_id, external_id=provider_id)
            )

        async def failed(outbound: Outbound, reason: str) -> None:
            recipient = outbound.recipient_id
            if isinstance(outbound, OutboundMessage):
                told = _status(outbound.message_id, "failed", recipient_id=recipient, error=reason)
            else:
                refused = _status(outbound.of_message_id, "failed", recipient_id=recipient, error=reason)
                ids = {"external_id": outbound.change_id, "change_id": outbound.change_id}
                told = refused.model_copy(update=ids)
            await self._publish(told)

        self._reader = OutboundReader(
            self._connection,
            self.credential,
            handler,
            sent=sent,
            failed=failed,
            concurrency=self._concurrency,
            update=self._update,
        )
        self._tasks.append(asyncio.create_task(self._reader.run(), name="adapter outbound"))

    def _record(self, event: InboundMessage | InboundStatus) -> Record:
        key = sender_key(event.sender.id)
        envelope = Envelope(
            id=_message_id(self.inbox_id, event),
            type=f"relevo.inbound.{event.kind}.v1",
            source=f"adapter/{self.credential}",
            account=self.account_id,
            entity=key,
            time=event.occurred_at,
            recorded=now(),
        )
        subject = INBOUND.subject(account=self.account_id, inbox=self.inbox_id, sender=key, kind=event.kind)
        return Record(subject, key, envelope.headers(), event.model_dump_json(exclude_none=True))

    @asynccontextmanager
    async def _turn(self, lane: str) -> AsyncIterator[None]:
        """One event of a sender at a time, first come first served."""
        lock, users = self._lanes.get(lane, (asyncio.Lock(), 0))
        self._lanes[lane] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._lanes[lane]
            if users == 1:
                del self._lanes[lane]
            else:
                self._lanes[lane] = lock, users - 1

    async def _deliver(self, record: Record) -> Receipt:
        if self._spool is None:
            return await self._send_until_taken(record)
        if not self._spool.pending:
            try:
                return await self._send(record)
            except BusAway as away:
                log.warning("the bus did not take an event (%s); it goes to the spool", away)
        # Behind what waits there already: a sender's events stay in order.
        await self._spool.append(record)
        self._replay.set()
        return Receipt(spooled=True)

    async def _send(self, record: Record) -> Receipt:
        duplicate = await self._connection.publish(record.subject, record.body.encode(), record.headers)
        return Receipt(duplicate=duplicate)

    async def _send_until_taken(self, record: Record) -> Receipt:
        while True:
            await self._connection.up.wait()
            try:
                return await self._send(record)
            except BusAway as away:
                log.warning("the bus did not take an event (%s); trying again", away)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _replay_spool(self, spool: Spool) -> None:
        """Send what is spooled, oldest first, whenever the bus is there."""
        while self._open:
            await self._replay.wait()
            self._replay.clear()
            while spool.pending and self._open:
                await self._connection.up.wait()
                records = spool.read(WINDOW)
                taken = await self._send_in_lanes(spool, records)
                spool.drop(taken)
                if taken < len(records) or not records:
                    await asyncio.sleep(_AGAIN_SECONDS)
            log.info("the spool is empty")

    async def _send_in_lanes(self, spool: Spool, records: list[Record]) -> int:
        """Send records, those of one sender in order; answers how many from the first on were all taken."""
        taken = [False] * len(records)
        lanes: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            lanes.setdefault(record.lane, []).append(index)

        async def send(indexes: list[int]) -> None:
            for index in indexes:
                try:
                    await self._send(records[index])
                except TooLarge as error:
                    # The bus takes less than it did when this was spooled: it must not hold up all others for ever.
                    log.error("replay: %s", error)  # noqa: TRY400 — said without a traceback
                    spool.set_aside(records[index].line())
                taken[index] = True

        results = await asyncio.gather(*map(send, lanes.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BusAway):
                log.debug("replay: %s", result)
            elif isinstance(result, BaseException):
                log.error("replay: %r", result)
        return next((index for index, ok in enumerate(taken) if not ok), len(taken))


def _status(
    message_id: str,
    status: DeliveryStatus,
    *,
    recipient_id: str,
    external_id: str | None = None,
    error: str | None = None,
    occurred_at: datetime | None = None,
) -> InboundStatus:
    return InboundStatus(
        kind="status",
        external_id=external_id or message_id,
        sender=Sender(id=recipient_id),
        message_id=message_id,
        status=status,
        error=error[:2000] if error else None,
        occurred_at=occurred_at or now(),
    )


def _message_id(inbox_id: str, event: InboundMessage | InboundStatus) -> str:
    """The same for the same event, so that the bus folds immediate repetitions."""
    parts = [inbox_id, event.kind, event.external_id]
    if isinstance(event, InboundStatus):
        parts.append(event.status)
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


async def _each(
    events: Iterable[InboundMessage | InboundStatus] | AsyncIterable[InboundMessage | InboundStatus],
) -> AsyncIterator[InboundMessage | InboundStatus]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event
