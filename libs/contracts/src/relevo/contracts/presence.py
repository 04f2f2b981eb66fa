"""The presence service: who is there."""

from typing import Literal

from relevo.contracts.base import Id, Model, Time

RoutingState = Literal["available", "busy", "away", "offline"]
PresenceCause = Literal[
    "manual",
    "supervisor",
    "connected",
    "disconnected",
    "expired",
    "sign_out",
    "removed",
    "initial",
    "shift_over",
    "break",
    "capacity",
    "idle",
]


class AgentStatus(Model):
    """An agent's effective status, and since when.

    ``chosen`` is what was set by hand; ``label`` the named status (Lunch, Training), where one is in force. ``in_shift``
    None: no shift is planned. With the cause capacity, ``open`` of ``limit`` conversations are the reason.
    ``back_at``, of who is off shift, away or offline: when they are expected, as was known when this was told: at the end
    of what they chose, else at the beginning of their next shift.
    """

    agent_id: Id
    state: RoutingState
    label_id: Id | None = None
    label: str | None = None
    chosen: RoutingState | None = None
    until: Time | None = None
    connected: bool = False
    since: Time
    cause: PresenceCause
    in_shift: bool | None = None
    open: int | None = None
    limit: int | None = None
    back_at: Time | None = None


class StatusChanged(Model):
    """An agent's effective status changed: an interval of ``previous`` ended and one of ``status`` began.

    A named status that follows another of the same state, and a shift that begins or ends, begin an interval too.
    """

    status: AgentStatus
    previous: RoutingState
    previous_since: Time
    previous_label_id: Id | None = None
    previous_in_shift: bool | None = None


class BreakDue(Model):
    """A break is due by the account's rules: the agent's status changes at ``begins_at``, unless they put it off."""

    agent_id: Id
    label_id: Id
    label: str
    begins_at: Time
    may_put_off: bool


class RulesChanged(Model):
    """An account's automatic rules changed. ``watches_load``: one of them looks at how many conversations agents hold."""

    account_id: Id
    watches_load: bool


class Heartbeat(Model):
    """An agent's device is connected (or just left). Expires after the grace period.

    ``connected`` False: its socket closed; with ``signed_out`` on purpose, which takes effect at once, else after a
    few seconds, so that reloading a page changes nothing. ``acted_at`` is when somebody last touched the device.
    """

    agent_id: Id
    device_id: Id
    connected: bool = True
    signed_out: bool = False
    at: Time
    acted_at: Time | None = None
