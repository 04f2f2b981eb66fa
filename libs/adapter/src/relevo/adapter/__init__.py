"""The SDK for channel adapters: publish what a channel brings, send what an agent writes.

adapter = Adapter("nats://bus:4222", "whatsapp.creds", account_id, inbox_id)

@adapter.on_outbound
async def send(message: OutboundMessage) -> str:
return await provider.send(message.recipient_id, message.text)

async with adapter:
await adapter.publish(InboundMessage(kind="message", …))
await adapter.wait()
"""

from relevo.adapter.adapter import Adapter, Receipt
from relevo.adapter.errors import (
    AdapterError,
    BadCredentials,
    Closed,
    NotAuthorized,
    PartlyPublished,
    SpoolFull,
    SpoolUnusable,
    TooLarge,
    Undeliverable,
)
from relevo.adapter.outbound import Handler, UpdateHandler
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.inbound import Attachment, Content, InboundMessage, InboundStatus, Sender
from relevo.kernel.identity import sender_key

__all__ = [
    "Adapter",
    "AdapterError",
    "Attachment",
    "BadCredentials",
    "Closed",
    "Content",
    "Handler",
    "InboundMessage",
    "InboundStatus",
    "NotAuthorized",
    "OutboundMessage",
    "OutboundUpdate",
    "PartlyPublished",
    "Receipt",
    "Sender",
    "SpoolFull",
    "SpoolUnusable",
    "TooLarge",
    "Undeliverable",
    "UpdateHandler",
    "sender_key",
]
