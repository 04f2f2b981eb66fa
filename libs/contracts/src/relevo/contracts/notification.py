"""The notification service: how the team's own people are reached."""

from typing import Any, Literal

from pydantic import Field

from relevo.contracts.base import Id, Model, Time


class MailFile(Model):
    """What is attached to an e-mail; ``content`` is base64."""

    name: str
    content_type: Literal["application/pdf"] = "application/pdf"
    content: str


class Notify(Model):
    """Reach an agent, all of a team, all with a role, or an address. Once per ``dedup_key`` and person.

    ``template`` names a text that exists in es and en; ``data`` fills it. Worth nothing after ``useless_after``. With
    ``conversation_id`` only those hear of it who may see that conversation, or, ``vouched``, whoever the sender names. Of a team or role, whoever caused it (the
    envelope's actor) is not told. A ``file`` goes with what is written to an address.
    """

    dedup_key: str
    kind: str
    agent_id: Id | None = None
    team_id: Id | None = None
    role_id: Id | None = None
    address: str | None = None
    language: Literal["es", "en"] = "es"
    template: str
    data: dict[str, Any] = Field(default_factory=dict)
    conversation_id: Id | None = None
    vouched: bool = False
    useless_after: Time | None = None
    file: MailFile | None = None


class NotificationCreated(Model):
    """Something for one agent's notification list; the same id again when it comes back from being read or snoozed.

    Of a customer's messages in one conversation the first is told; those that come until it is read are counted in the list.
    """

    notification_id: Id
    agent_id: Id
    kind: str
    conversation_id: Id | None = None
    title: str
    body: str
    created_at: Time


class NotificationsRead(Model):
    """An agent read these, or put them away, wherever that was: open lists show them as unread no more.

    Without ids: all that there were at ``at``.
    """

    agent_id: Id
    notification_ids: tuple[Id, ...] = ()
    conversation_id: Id | None = None
    at: Time
