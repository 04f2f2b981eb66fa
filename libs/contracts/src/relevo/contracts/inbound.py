"""What adapters publish: the inbound event, as it comes from a channel."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from relevo.contracts.base import Model, Time

MAX_TEXT = 150_000
MAX_ATTACHMENTS = 15

ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Sender(Model):
    """Who wrote, as the channel knows them. ``id`` is the channel's own identifier of the person."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    name: Annotated[str, StringConstraints(max_length=512)] = ""
    email: Annotated[str, StringConstraints(max_length=320)] | None = None
    phone: Annotated[str, StringConstraints(max_length=64)] | None = None
    language: Annotated[str, StringConstraints(max_length=35)] | None = None


class Attachment(Model):
    """A file of a message: a provider's address, with what the provider says of it; ``id`` when we keep the file."""

    url: Annotated[str, StringConstraints(max_length=4096)]
    name: Annotated[str, StringConstraints(max_length=512)] = ""
    content_type: Annotated[str, StringConstraints(max_length=255)] = ""
    size: Annotated[int, Field(ge=0)] | None = None
    id: Annotated[str, StringConstraints(max_length=64)] | None = None


class Content(Model):
    """What a message says."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)] = ""
    subject: Annotated[str, StringConstraints(max_length=998)] = ""
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=MAX_ATTACHMENTS)] = ()


DeliveryStatus = Literal["sent", "delivered", "read", "failed"]


class InboundMessage(Model):
    """A customer's message. ``external_id`` is the provider's id of it, ``occurred_at`` the provider's time.

    ``automatic``: no person wrote it (an out-of-office reply, a bounce, a list's mail), so nothing answers it by itself.
    """

    kind: Literal["message"]
    external_id: ExternalId
    sender: Sender
    content: Content
    occurred_at: Time
    reply_to: ExternalId | None = None
    automatic: bool = False
    raw: dict[str, Any] | None = None


class InboundStatus(Model):
    """What became of a message that we sent. ``message_id`` is ours, from the outbound message.

    ``change_id``, from an outbound update, says that it is about that change of the message; ``external_id`` is the same then.
    """

    kind: Literal["status"]
    external_id: ExternalId
    sender: Sender
    message_id: ExternalId
    status: DeliveryStatus
    error: Annotated[str, StringConstraints(max_length=2000)] | None = None
    change_id: ExternalId | None = None
    occurred_at: Time


InboundEvent = Annotated[InboundMessage | InboundStatus, Field(discriminator="kind")]
