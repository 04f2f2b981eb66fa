"""The bus: inbound events from adapters, and the dead letters of all services."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.message import NatsMessage
from nats.aio.msg import Msg
from pydantic import ValidationError

from relevo.chassis import Runtime, Tx, erasing
from relevo.chassis.crash import crash_point
from relevo.chassis.database import described
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.dead import DeadLettered
from relevo.contracts.envelope import Envelope
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.ingest import EventQuarantined
from relevo.contracts.personal import redacted
from relevo.ingest.accept import accept
from relevo.ingest.domain import delivery
from relevo.ingest.domain.ledger import Arrival, arrival
from relevo.ingest.domain.parsing import Event, Limits
from relevo.ingest.domain.refusal import Refused
from relevo.ingest.personal import concerned
from relevo.ingest.settings import Settings
from relevo.ingest.store import dead_letters, inboxes, quarantine
from relevo.ingest.store.dead_letters import Letter
from relevo.ingest.store.quarantine import Refusal
from relevo.kernel.text import clean

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Gate:
    """The bus door. Whatever an adapter publishes is accepted or quarantined; nothing it can send raises."""

    def __init__(self, settings: Settings) -> None:
        self._limits: Limits = settings.limits
        self._max_body = settings.quarantine_max_body_bytes

    async def take_in(self, batch: Sequence[delivery.BusMessage], tx: Tx) -> None:
        """Accept what is valid, in order; put the rest aside with the reason."""
        refusals: list[Refusal] = []
        read: list[tuple[delivery.BusMessage, delivery.Address, Event]] = []
        for received in batch:
            place = delivery.address(received.subject)
            try:
                event = delivery.read(place, received.body, now=received.time, limits=self._limits)
            except Refused as refused:
                refusals.append(_refusal(received, place, refused))
            else:
                read.append((received, place, event))
        ids = {place.inbox_id for _, place, _ in read if delivery.is_uuid(place.inbox_id)}
        known = await inboxes.by_ids(tx, ids) if ids else {}
        arrivals: list[Arrival] = []
        for received, place, event in read:
            try:
                inbox = delivery.open_inbox(known.get(place.inbox_id), place.account_id)
            except Refused as refused:
                refusals.append(_refusal(received, place, refused))
            else:
                arrivals.append(arrival(inbox, event, at=received.time, cause=_cause(received, place)))
        # Quarantine before ledger: the order in which a retry locks them too.
        if refusals:
            await self._set_aside(refusals, tx)
        if arrivals:
            await accept(arrivals, tx)

    async def _set_aside(self, refusals: Sequence[Refusal], tx: Tx) -> None:
        kept = await quarantine.keep(tx, refusals, self._max_body)
        crash_point("ingest.after_quarantine")
        for one in kept:
            if not one.fresh or not delivery.is_uuid(one.refusal.account_id):
                continue  # nobody to tell
            first = one.refusal.faults[0]
            tx.emit(
                EventQuarantined(
                    quarantine_id=one.id, inbox_id=one.refusal.inbox_id, reason=first.code, detail=first.en
                ),
                account=one.refusal.account_id,
                entity=one.id,
                sequence=1,
                time=one.refusal.at,
            )


def _refusal(received: delivery.BusMessage, place: delivery.Address, refused: Refused) -> Refusal:
    return Refusal(
        account_id=place.account_id,
        inbox_id=place.inbox_id,
        subject=clean(received.subject),
        faults=refused.faults,
        body=received.body,
        at=received.time,
    )


def _cause(received: delivery.BusMessage, place: delivery.Address) -> Envelope | None:
    """The adapter's own ids, so that a trace goes through; nothing else that its headers claim is believed."""
    headers = received.headers
    message_id = headers.get("ce-id") or headers.get("Nats-Msg-Id") or ""
    if not _TOKEN.fullmatch(message_id):
        return None
    trace = headers.get("traceparent", "")
    return Envelope(
        id=message_id,
        type=f"relevo.inbound.{place.kind}.v1",
        source="adapter",
        account=place.account_id,
        entity=place.sender,
        time=received.time,
        recorded=received.time,
        traceparent=trace if _TRACEPARENT.fullmatch(trace) else "",
    )


_DEAD_POLL_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 5.0


def subscribe(broker: NatsBroker, runtime: Runtime) -> None:
    """Record the dead letters of all services, each acknowledged once it is in the database."""

    async def on_dead_letter(message: Any) -> None:
        delivered: Msg = message
        try:
            letter = _letter(delivered)
        except ValidationError as unreadable:
            # From a newer publisher, perhaps: delivered again up to max_deliver, and the stream keeps it.
            runtime.log.warning("dead_letter_unreadable", subject=delivered.subject, error=str(unreadable)[:500])
            await delivered.nak(delay=_AGAIN_SECONDS)
            return
        try:
            async with runtime.database.begin(letter.account_id) as tx:
                if concerned(await erasing.lately_erased(tx, letter.account_id), *_told(letter.data)):
                    letter = replace(letter, data=redacted(letter.data))
                await dead_letters.record(tx, [letter], now())
        except Exception as error:  # noqa: BLE001 — whatever it is, the broker keeps the letter until it works
            runtime.log.warning("dead_letter_again", error=described(error))
            await delivered.nak(delay=_AGAIN_SECONDS)
            return
        crash_point("ingest.after_dead_letter")
        await delivered.ack()

    broker.subscriber(
        streams.DEAD.published(),
        stream=JStream(streams.DEAD.name, declare=False),
        durable="ingest",
        # One by one: a fetch of several can end in the built-in TimeoutError, which FastStream does not expect; it
        # then drops what it had fetched until the broker delivers it again.
        pull_sub=PullSub(batch_size=1, timeout=_DEAD_POLL_SECONDS),
        inbox_prefix=f"{inbox_prefix('ingest')}.".encode(),
        decoder=_as_it_came,
    )(on_dead_letter)


def _told(letter: DeadLettered) -> tuple[str, str, bytes]:
    return letter.subject, json.dumps(letter.headers), letter.body.encode()


async def _as_it_came(message: NatsMessage) -> Msg:
    return message.raw_message


def _letter(message: Msg) -> Letter:
    account = message.subject.split(".")[streams.DEAD.tokens.index("{account}")]
    return Letter(account, DeadLettered.model_validate_json(message.data))
