"""The presence service: who is there."""

from typing import Literal

from relevo.contracts.base import Id, Model, Time

RoutingState = Literal["available", "busy", "away", "offline"]
PresenceCause = Literal[
    "manual", "supervisor", "connected", "disconnected", "expired", "sign_out", "removed", "initial"
]


class AgentStatus(Model):
    """An agent's effective status, and since when. ``chosen`` is what the agent set by hand."""

    agent_id: Id
    state: RoutingState
    chosen: RoutingState | None = None
    until: Time | None = None
    connected: bool = False
    since: Time
    cause: PresenceCause


class StatusChanged(Model):
    """An agent's effective status changed: an interval of ``previous`` ended and one of ``status`` began."""

    status: AgentStatus
    previous: RoutingState
    previous_since: Time


class Heartbeat(Model):
    """An agent's device is connected (or just left). Expires after the grace period.

    ``connected`` False: its socket closed; with ``signed_out`` on purpose, which takes effect at once, else after a
    few seconds, so that reloading a page changes nothing.
    """

    agent_id: Id
    device_id: Id
    connected: bool = True
    signed_out: bool = False
    at: Time
