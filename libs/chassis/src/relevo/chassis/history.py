"""The history reader: an owner's whole log, from its segments and outbox to its stream, as one gapless sequence.

A service owns its log alone: segments and outbox are in its object store and its database. Who reads its stream asks
it for what the stream no longer holds, a page at a time, over the bus; who may ask whom, and which messages of the log
it is told, follows from the catalogue. Rows carry the sequence that they had in the stream, so that log and stream are one
coordinate: the log is read up to the stream's first message, the stream from there on.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from relevo.chassis import telemetry
from relevo.chassis.bus import Bus, parse_time
from relevo.chassis.database import described
from relevo.chassis.log import Log, Page
from relevo.chassis.received import Received
from relevo.chassis.segments import LogRow, SegmentDamaged, pack, unpack
from relevo.chassis.wire import Delivery
from relevo.contracts import streams
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import read_by, reader_filter
from relevo.contracts.grants import history_ask, history_tell, readers_of_log
from relevo.contracts.streams import BY_NAME, Stream

log = structlog.get_logger("relevo.history")

_THROUGH, _END, _ERROR = "Relevo-Through", "Relevo-End", "Relevo-Error"
_ANSWER_SECONDS = 15.0
_PULL = 500
_PULL_SECONDS = 5.0


class _LetGo(Exception):
    """The stream let go of messages while they were about to be read from it."""


class HistoryUnavailable(Exception):
    """An owner does not tell what the stream no longer holds; nothing may be handled beyond it."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A row of a log in the shape of a delivered message."""

    subject: str
    headers: dict[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """What of a stream is read: which subjects, behind which sequence or from which moment on, and through which sequence.

    ``gapless``: nothing may be missing that was stored there.
    """

    subject: str
    after: int
    through: int
    at: datetime | None = None
    gapless: bool = False


def received(stream: Stream, p: int, row: LogRow, previous: int) -> Received:
    """A row of a log as handlers get it: with the subject under which the stream stored it."""
    tokens = row.subject.split(".")
    tokens.insert(stream.partition_at, str(p))
    message = _Message(".".join(tokens), json.loads(row.headers), row.body)
    nanoseconds = int(row.created_at.timestamp() * 1e6) * 1000
    return Received(stream, p, message, row.seq, previous, nanoseconds)


def owners(service: str, stream: Stream) -> dict[str, set[str]]:
    """Who publishes what a service reads of a stream, each with the types of its messages. INBOUND has no owner."""
    if stream is streams.INBOUND:
        return {}
    found: dict[str, set[str]] = {}
    for message in read_by(service).get(stream, ()):
        for publisher in message.publishers:
            found.setdefault(publisher, set()).add(message.name)
    return found


class HistoryServer:
    """Tells the readers of this service's streams what its log holds."""

    def __init__(self, bus: Bus, owned: Log) -> None:
        self._bus = bus
        self._log = owned

    async def start(self) -> None:
        """Listen; replicas share the questions. One page at a time: readers of history must not crowd out the traffic."""
        service = self._bus.service
        if readers_of_log(service):
            await self._bus.nats.subscribe(history_ask(service, "*"), queue="history", cb=self._asked)

    async def _asked(self, msg: Msg) -> None:
        reader = msg.subject.rpartition(".")[2]
        try:
            asked: dict[str, Any] = json.loads(msg.data)
            question, stream = str(asked["question"]), BY_NAME[asked["stream"]]
            types = owners(reader, stream)[self._bus.service]
            p, after, before = int(asked["p"]), int(asked["after"]), int(asked["before"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("history_question_unreadable", reader=reader, error=described(error))
            return
        try:
            page = await self._log.page(stream.name, p, after=after, before=before, types=types)
            headers = {_THROUGH: str(page.through), _END: str(int(page.end))}
            body = pack(page.rows)
        except Exception as error:  # noqa: BLE001  (whatever it is, the reader must be told, and asks again)
            log.error("history_not_told", reader=reader, stream=stream.name, partition=p, error=described(error))  # noqa: TRY400
            reason = str(error) if isinstance(error, SegmentDamaged) else described(error)
            headers, body = {_ERROR: reason.replace("\n", " ")}, b""
        await self._bus.nats.publish(history_tell(reader, self._bus.service, question), body, headers=headers)


class History:
    """Reads the logs of others, and one's own, for one service."""

    def __init__(self, bus: Bus, own: Log) -> None:
        self._bus = bus
        self._own = own
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._listening: Subscription | None = None
        self._turn = asyncio.Semaphore(2)

    async def missing(self, stream: Stream, p: int, *, after: int, before: int) -> AsyncIterator[list[Received]]:
        """What a partition held with ``after`` < sequence < ``before``, in order, as the owners' logs have it.

        Raises HistoryUnavailable.
        """
        previous = after
        async for rows in self._merged(stream, p, after=after, before=before):
            batch = []
            for row in rows:
                batch.append(received(stream, p, row, previous))
                previous = row.seq
            if batch:
                telemetry.HISTORY_READ.labels(self._bus.service, stream.name).inc(len(batch))
                yield batch

    async def read(self, stream: Stream, p: int, *, after: int, through: int) -> AsyncIterator[list[Received]]:
        """Everything of a partition with ``after`` < sequence <= ``through`` that this service reads, in order, once.

        From the owners' logs as far as the stream no longer reaches, then from the stream. Raises HistoryUnavailable,
        BusError.
        """
        while after < through:
            first = await self._bus.begins(stream)
            if after + 1 < first:
                bound = min(first, through + 1)
                async for batch in self.missing(stream, p, after=after, before=bound):
                    yield batch
                after = bound - 1
            else:
                with contextlib.suppress(_LetGo):  # then the owners' logs have them
                    async for batch in self._stored(stream, p, after=after, through=through):
                        yield batch
                        after = batch[-1].seq
                    return

    async def since(
        self,
        stream: Stream,
        p: int,
        *,
        account: str,
        entity: str | None = None,
        at: datetime | None = None,
        after: int = 0,
    ) -> AsyncGenerator[list[Received], None]:
        """What the stream holds of one account in a partition, or of one entity: from a moment on, or behind a sequence.

        In order, up to what there is now; the broker leaves the rest out. What the stream has let go of is not told. Raises
        HistoryUnavailable, BusError.
        """
        fixed = {"account": account} | ({"entity": entity} if entity else {})
        state = await self._bus.stream_state(stream)
        place = _Place(stream.stored(p, **fixed), after, int(state["last_seq"]), at)
        async with contextlib.aclosing(self._delivered(stream, p, place)) as batches:
            async for batch in batches:
                yield batch

    async def known_since(self, stream: Stream) -> datetime | None:
        """When the first message was stored that the stream still holds; None: it holds none."""
        state = await self._bus.stream_state(stream)
        return parse_time(state["first_ts"]) if state.get("messages") else None

    async def _merged(self, stream: Stream, p: int, *, after: int, before: int) -> AsyncIterator[list[LogRow]]:
        """The rows of all owners of a stream, in the order of the stream. A page of each is in memory."""
        places = dict.fromkeys(owners(self._bus.service, stream), after)
        waiting: list[LogRow] = []
        while places:
            behind = min(places, key=lambda owner: places[owner])
            page = await self._page(behind, stream, p, after=places[behind], before=before)
            waiting += page.rows
            places[behind] = page.through
            if page.end:
                del places[behind]
            complete = min(places.values(), default=before)
            yield sorted((row for row in waiting if row.seq <= complete), key=lambda row: row.seq)
            waiting = [row for row in waiting if row.seq > complete]

    async def _page(self, owner: str, stream: Stream, p: int, *, after: int, before: int) -> Page:
        async with self._turn:
            if owner == self._bus.service:
                return await self._own.page(
                    stream.name, p, after=after, before=before, types=owners(owner, stream)[owner]
                )
            question = {"question": new_id(), "stream": stream.name, "p": p, "after": after, "before": before}
            answer = await self._ask(owner, question)
        headers = answer.headers or {}
        wanted = f"{owner} does not tell its log of {stream.name}/{p} after {after}"
        if headers.get("Status") == "503":
            raise HistoryUnavailable(f"{wanted}: it is not running")
        if _ERROR in headers:
            raise HistoryUnavailable(f"{wanted}: {headers[_ERROR]}")
        page = Page(unpack(answer.data), int(headers[_THROUGH]), headers[_END] == "1")
        if page.through <= after and not page.end:
            raise HistoryUnavailable(f"{wanted}: its answer goes no further")
        return page

    async def _ask(self, owner: str, question: dict[str, Any]) -> Msg:
        me, id_ = self._bus.service, str(question["question"])
        if self._listening is None:
            self._listening = await self._bus.nats.subscribe(history_tell(me, "*", "*"), cb=self._told)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._answers[id_] = future
        try:
            # The reply subject serves the broker alone: it answers there when nobody listens.
            await self._bus.nats.publish(
                history_ask(owner, me), json.dumps(question).encode(), reply=history_tell(me, owner, id_)
            )
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await future
        except TimeoutError:
            raise HistoryUnavailable(
                f"{owner} did not answer within {_ANSWER_SECONDS:g} s for its log of {question['stream']}/{question['p']}"
            ) from None
        finally:
            del self._answers[id_]

    async def _told(self, msg: Msg) -> None:
        future = self._answers.get(msg.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(msg)

    async def _stored(self, stream: Stream, p: int, *, after: int, through: int) -> AsyncIterator[list[Received]]:
        """What the stream holds of it. Raises _LetGo when it has let go of what comes next meanwhile."""
        place = _Place(reader_filter(self._bus.service, stream, p), after, through, gapless=True)
        async for batch in self._delivered(stream, p, place):
            yield batch

    async def _delivered(self, stream: Stream, p: int, place: "_Place") -> AsyncGenerator[list[Received], None]:
        bus, after, through = self._bus, place.after, place.through
        name, inbox = f"{bus.service}-{p}-h{new_id()[-12:]}", bus.nats.new_inbox()
        subscription = await bus.nats.subscribe(inbox)
        try:
            await bus.create_reader(stream, name, place.subject, start_seq=after + 1, start_time=place.at)
            if place.gapless and await bus.begins(stream) > after + 1:
                raise _LetGo
            expected = 1
            while after < through:
                batch, ended = await self._pull(stream, name, inbox, subscription)
                found = []
                for msg in batch:
                    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
                    tokens = msg.reply.rsplit(".", 4)
                    seq, number, nanoseconds = int(tokens[1]), int(tokens[2]), int(tokens[3])
                    if number != expected:
                        raise HistoryUnavailable(f"{stream.name}/{p}: message {expected} of a reading is missing")
                    expected += 1
                    if seq > through:
                        ended = True
                        break
                    delivery = Delivery(msg.subject, msg.reply, msg.data, msg.headers or {})
                    found.append(Received(stream, p, delivery, seq, after, nanoseconds))
                    after = seq
                if found:
                    yield found
                if ended:
                    return
        finally:
            await subscription.unsubscribe()
            await bus.delete_reader(stream, name)

    async def _pull(self, stream: Stream, name: str, inbox: str, subscription: Subscription) -> tuple[list[Msg], bool]:
        """Up to _PULL messages that are there now; and whether that was all."""
        request = json.dumps({"batch": _PULL, "no_wait": True}).encode()
        await self._bus.nats.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{name}", request, reply=inbox)
        found: list[Msg] = []
        while len(found) < _PULL:
            msg = await subscription.next_msg(timeout=_PULL_SECONDS)
            status = (msg.headers or {}).get("Status", "")
            if not msg.reply and status:
                if status in {"404", "408"}:
                    return found, True
                raise HistoryUnavailable(f"{stream.name}: a reading was ended by the broker ({status})")
            found.append(msg)
        return found, False
