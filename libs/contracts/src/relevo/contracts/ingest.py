"""What ingest publishes: accepted inbound events, inboxes, quarantine."""

from typing import Annotated, Literal

from pydantic import Field

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.inbound import Content, DeliveryStatus, Sender

ReopenPolicy = Literal["always_one", "new_after_resolved"]


SurveyWay = Literal["link", "reply"]
MessageChange = Literal["edit", "delete"]


class SurveySettings(Model):
    """Asking customers how they were served, after their conversation was resolved. Days are of 24 hours.

    ``way``: a page behind a link, or an answer in the channel itself, one digit. Nobody is asked again within
    ``again_after_days``; an answer is taken for ``answer_days`` and can be changed for ``change_days`` after the first.
    """

    way: SurveyWay = "link"
    delay_seconds: Annotated[int, Field(ge=0, le=7 * 86_400)] = 300
    again_after_days: Annotated[int, Field(ge=0, le=365)] = 30
    answer_days: Annotated[int, Field(ge=1, le=90)] = 14
    change_days: Annotated[int, Field(ge=0, le=30)] = 3


class InboxState(Model):
    """An inbox with all its settings: a channel connected to an account. Holds no secret.

    ``changes``: what its channel can do to messages that the customer has already; the webchat can do all of it.
    ``archive_after_days``: what was resolved so long ago is put away by itself; None: never.
    ``bot_first``: a bot that is attached to it gets conversations before people do, but, with ``bot_skips_owned``, not
    those of contacts who have an owner; one that says nothing for ``bot_timeout_seconds`` loses them to people.
    """

    id: Id
    account_id: Id
    name: str
    channel: str
    enabled: bool = True
    reopen: ReopenPolicy = "always_one"
    team_id: Id | None = None
    bot_first: bool = False
    bot_skips_owned: bool = False
    bot_timeout_seconds: int = 60
    phone_region: str = "ES"
    webhook_url: str | None = None
    show_typing: bool = True
    survey: SurveySettings | None = None
    changes: tuple[MessageChange, ...] = ()
    archive_after_days: int | None = None

    @property
    def changeable(self) -> frozenset[MessageChange]:
        """What can be done to messages that were sent."""
        return frozenset({"edit", "delete"}) if self.channel == "webchat" else frozenset(self.changes)


class InboxChanged(Model):
    """An inbox was made, edited or removed; carries its whole new state."""

    inbox: InboxState
    deleted: bool = False


class MessageReceived(Model):
    """An inbound message, accepted once, cleaned and normalised.

    ``sender_key`` is the token of the sender within the inbox; events of one sender keep their order. ``automatic``:
    no person wrote it.
    """

    inbox: InboxState
    sender_key: Id
    sender: Sender
    external_id: str
    content: Content
    reply_to: str | None = None
    automatic: bool = False
    occurred_at: Time
    received_at: Time


class StatusReceived(Model):
    """A delivery report, accepted once; with ``change_id`` it is on a change of the message."""

    inbox: InboxState
    sender_key: Id
    message_id: str
    external_id: str
    status: DeliveryStatus
    error: str | None = None
    change_id: str | None = None
    occurred_at: Time


class EventQuarantined(Model):
    """An inbound event was refused and kept aside, with the reason."""

    quarantine_id: Id
    inbox_id: str
    reason: str
    detail: str
