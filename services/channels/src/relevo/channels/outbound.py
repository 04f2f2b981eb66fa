"""Outbound messages: each that one of our channels serves is in our database before it is acknowledged.

Delivering is another matter (webhook, webchat), so that a receiver that is down holds up nobody else.
"""

import json
from typing import Any, Final

from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.message import NatsMessage
from nats.aio.msg import Msg
from pydantic import ValidationError

from relevo.channels import store
from relevo.channels.inboxes import Inboxes
from relevo.channels.reports import refusal, status_of
from relevo.chassis import Runtime
from relevo.chassis.crash import crash_point
from relevo.chassis.database import described
from relevo.contracts import streams
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.grants import inbox_prefix, poke_subject
from relevo.contracts.ingest import InboxState

_POLL_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 2.0
_PATIENCE: Final = 15
"""How often an inbox that is not known yet, or a message that cannot be read, is looked at again."""
_ACCOUNT: Final = streams.OUTBOUND.tokens.index("{account}")
_INBOX: Final = streams.OUTBOUND.tokens.index("{inbox}")
_UPDATE: Final = "update"
_BOT: Final = "bot"


def serves(inbox: InboxState) -> bool:
    """Whether the inbox's messages are ours to deliver; others are some adapter's."""
    return inbox.channel == "webchat" or (inbox.channel == "api" and inbox.webhook_url is not None)


def subscribe(broker: NatsBroker, runtime: Runtime) -> None:
    """Take outbound messages from the durable."""
    inboxes: Inboxes = runtime.extra["inboxes"]

    async def on_outbound(message: Any) -> None:
        delivered: Msg = message
        tokens = delivered.subject.split(".")
        if tokens[-1] == _BOT:
            await delivered.ack()  # a bot stands there, no inbox
            return
        try:
            inbox = await inboxes.get(tokens[_INBOX])
            if inbox is None:
                await _unknown(runtime, delivered)
                return
            ours = serves(inbox) and inbox.account_id == tokens[_ACCOUNT]
            if ours and tokens[-1] == _UPDATE:
                last = delivered.metadata.num_delivered >= _PATIENCE
                update = OutboundUpdate.model_validate_json(delivered.data)
                if not await take_update(runtime, inbox, update, last=last):
                    await delivered.nak(delay=_AGAIN_SECONDS)
                    return
            elif ours:
                await take(runtime, inbox, OutboundMessage.model_validate_json(delivered.data))
                crash_point("channels.after_take")
        except ValidationError as unreadable:
            runtime.log.warning("outbound_unreadable", subject=delivered.subject, error=str(unreadable)[:500])
            await _unknown(runtime, delivered)
            return
        except Exception as error:  # noqa: BLE001 — whatever it is, the broker keeps the message until it works
            runtime.log.warning("outbound_again", error=described(error))
            await delivered.nak(delay=_AGAIN_SECONDS)
            return
        await delivered.ack()

    broker.subscriber(
        streams.OUTBOUND.published(),
        stream=JStream(streams.OUTBOUND.name, declare=False),
        durable="channels",
        # One by one: a fetch of several can end in the built-in TimeoutError, which FastStream does not expect; it
        # then drops what it had fetched until the broker delivers it again.
        pull_sub=PullSub(batch_size=1, timeout=_POLL_SECONDS),
        inbox_prefix=f"{inbox_prefix('channels')}.".encode(),
        decoder=_as_it_came,
    )(on_outbound)


async def take(runtime: Runtime, inbox: InboxState, message: OutboundMessage) -> None:
    """Keep a message, once, and have it delivered."""
    if inbox.channel == "api":
        async with runtime.database.begin(inbox.account_id) as tx:
            await store.add_delivery(tx, inbox.account_id, message)
        runtime.extra["deliveries"].set()
        return
    async with runtime.database.begin(inbox.account_id) as tx:
        position = await store.add_reply(tx, inbox.account_id, message)
        if position is not None:
            sent = status_of(message.message_id, message.recipient_id, "sent", at=message.created_at)
            await store.report(tx, inbox.account_id, inbox.id, [sent])
    runtime.extra["reports"].set()
    await _poke(runtime, message.recipient_id)


async def take_update(runtime: Runtime, inbox: InboxState, update: OutboundUpdate, *, last: bool) -> bool:
    """Keep a change of a message; False while the message is not here yet. ``last``: it is not waited for any more."""
    if inbox.channel == "api":
        async with runtime.database.begin(inbox.account_id) as tx:
            await store.add_delivery(tx, inbox.account_id, update)
        runtime.extra["deliveries"].set()
        return True
    async with runtime.database.begin(inbox.account_id) as tx:
        if not (found := await store.change(tx, update)) and last:
            await store.report(tx, inbox.account_id, inbox.id, [refusal(update, "the visitor never got the message")])
    if found:
        await _poke(runtime, update.recipient_id)
    elif last:
        runtime.extra["reports"].set()
    return found or last


async def _poke(runtime: Runtime, visitor_id: str) -> None:
    """Whichever replica has the visitor's socket looks for what is new."""
    await runtime.nats.publish(poke_subject(runtime.name), json.dumps({"visitor": visitor_id}).encode())


async def _unknown(runtime: Runtime, message: Msg) -> None:
    if message.metadata.num_delivered < _PATIENCE:
        await message.nak(delay=_AGAIN_SECONDS)
        return
    runtime.log.error("outbound_given_up", subject=message.subject)
    await message.term()


async def _as_it_came(message: NatsMessage) -> Msg:
    return message.raw_message
