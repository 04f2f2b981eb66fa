"""The notification service: how the team's own people are reached."""

from typing import Any, Literal

from pydantic import Field

from relevo.contracts.base import Id, Model, Time


class Notify(Model):
    """Reach a person of the team, or an address. Once per ``dedup_key``; worth nothing after ``useless_after``.

    ``template`` names a text that exists in es and en; ``data`` fills it.
    """

    dedup_key: str
    kind: str
    agent_id: Id | None = None
    address: str | None = None
    language: Literal["es", "en"] = "es"
    template: str
    data: dict[str, Any] = Field(default_factory=dict)
    useless_after: Time | None = None


class NotificationCreated(Model):
    """Something for one agent's notification list."""

    notification_id: Id
    agent_id: Id
    kind: str
    conversation_id: Id | None = None
    title: str
    body: str
    created_at: Time
