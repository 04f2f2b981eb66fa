"""Delivery reports on their way to ingest, and what visitors write: published on INBOUND as any adapter would.

Not by the outbox: its relay must own its lanes, and INBOUND is shared with the adapters. Reports wait in a table of
ours, and a report that is published twice is recognised by ingest.
"""

import asyncio
import contextlib
from typing import Final

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from relevo.channels import store
from relevo.chassis import Runtime
from relevo.chassis.database import described
from relevo.contracts.base import Time, now
from relevo.contracts.conversation import OutboundUpdate
from relevo.contracts.envelope import Envelope
from relevo.contracts.inbound import InboundStatus, Sender
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key

log = structlog.get_logger("relevo.channels")

_BATCH: Final = 100
_POLL: Final = 1.0
_ACK: Final = 2.0
BUS_AWAY: Final = (NatsError, JetStreamError, TimeoutError, OSError)
"""What publishing raises while the bus does not take anything."""


def status_of(
    message_id: str,
    recipient_id: str,
    status: str,
    *,
    external_id: str | None = None,
    error: str | None = None,
    at: Time | None = None,
) -> InboundStatus:
    """What became of a message that we sent."""
    return InboundStatus.model_validate(
        {
            "kind": "status",
            "external_id": external_id or message_id,
            "sender": Sender(id=recipient_id),
            "message_id": message_id,
            "status": status,
            "error": error[:2000] if error else None,
            "occurred_at": at or now(),
        }
    )


def refusal(update: OutboundUpdate, error: str) -> InboundStatus:
    """A message could not be changed, and why."""
    told = status_of(update.of_message_id, update.recipient_id, "failed", external_id=update.change_id, error=error)
    return told.model_copy(update={"change_id": update.change_id})


async def publish(
    runtime: Runtime, *, event_id: str, account_id: str, inbox_id: str, sender: str, kind: str, body: bytes
) -> None:
    """Publish an inbound event; when this returns it is stored. Raises what the client library raises."""
    key = sender_key(sender)
    moment = now()
    envelope = Envelope(
        id=event_id,
        type=f"relevo.inbound.{kind}.v1",
        source="relevo/channels",
        account=account_id,
        entity=key,
        time=moment,
        recorded=moment,
    )
    subject = INBOUND.subject(account=account_id, inbox=inbox_id, sender=key, kind=kind)
    await runtime.js.publish(subject, body, timeout=_ACK, headers=envelope.headers())


async def run(runtime: Runtime) -> None:
    """The worker that publishes the reports. Any number of replicas may run it."""
    wake: asyncio.Event = runtime.extra["reports"]
    while not runtime.stopping.is_set():
        wake.clear()
        done = 0
        try:
            done = await publish_waiting(runtime)
        except Exception as error:  # noqa: BLE001 — bus or database may be away; the reports wait safely
            log.warning("reports_again", error=described(error))
        if done < _BATCH:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await wake.wait()


async def publish_waiting(runtime: Runtime) -> int:
    """Publish the oldest reports, in order; answers how many. Raises what the client library raises."""
    failure: Exception | None = None
    async with runtime.database.begin(door="reports") as tx:
        waiting = await store.reports(tx, _BATCH)
        done = []
        try:
            async with asyncio.timeout(_ACK):  # the transaction must not idle for long
                for row in waiting:
                    await publish(
                        runtime,
                        event_id=row.event_id,
                        account_id=row.account_id,
                        inbox_id=row.inbox_id,
                        sender=row.sender,
                        kind="status",
                        body=row.body.encode(),
                    )
                    done.append(row.id)
        except BUS_AWAY as error:
            failure = error
        await store.forget_reports(tx, done)
    if failure:
        raise failure
    return len(done)
