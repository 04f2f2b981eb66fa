"""What ingest publishes: accepted inbound events, inboxes, quarantine."""

from typing import Literal

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.inbound import Content, DeliveryStatus, Sender

ReopenPolicy = Literal["always_one", "new_after_resolved"]


class InboxState(Model):
    """An inbox with all its settings: a channel connected to an account. Holds no secret."""

    id: Id
    account_id: Id
    name: str
    channel: str
    enabled: bool = True
    reopen: ReopenPolicy = "always_one"
    team_id: Id | None = None
    bot_first: bool = False
    phone_region: str = "ES"
    webhook_url: str | None = None
    show_typing: bool = True


class InboxChanged(Model):
    """An inbox was made, edited or removed; carries its whole new state."""

    inbox: InboxState
    deleted: bool = False


class MessageReceived(Model):
    """An inbound message, accepted once, cleaned and normalised.

    ``sender_key`` is the token of the sender within the inbox; events of one sender keep their order.
    """

    inbox: InboxState
    sender_key: Id
    sender: Sender
    external_id: str
    content: Content
    reply_to: str | None = None
    occurred_at: Time
    received_at: Time


class StatusReceived(Model):
    """A delivery report, accepted once."""

    inbox: InboxState
    sender_key: Id
    message_id: str
    external_id: str
    status: DeliveryStatus
    error: str | None = None
    occurred_at: Time


class EventQuarantined(Model):
    """An inbound event was refused and kept aside, with the reason."""

    quarantine_id: Id
    inbox_id: str
    reason: str
    detail: str
