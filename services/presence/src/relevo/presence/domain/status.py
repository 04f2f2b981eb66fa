"""The effective status of an agent, as a pure function of what is known, and how each input changes it.

Precedence, the first that applies:

| # | what is known                                        | state        | cause                                   |
|---|------------------------------------------------------|--------------|-----------------------------------------|
| 1 | the agent was removed or deactivated                 | offline      | removed                                 |
| 2 | a choice of `offline` in force (its until not over)  | offline      | manual, supervisor                      |
| 3 | no device is connected                               | offline      | sign_out, disconnected, expired, initial |
| 4 | another choice in force                              | as chosen    | manual, supervisor                      |
| 5 | connected, nothing chosen                            | available    | connected                               |

Shifts and automatic rules will stand between 3 and 4.

A device is connected until its `expires_at`. Sockets renew theirs with heartbeats. Who works by HTTP alone has no
heartbeats: there the choice itself is the sign of life, as a device named HTTP that lasts `http_grace` (a working day:
long enough to need no second call in a shift, bounded so that nobody who forgot to leave gets work for ever). It is
made only when no socket lives and goes as soon as one does, so that for people with a browser sockets alone count.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from relevo.contracts.presence import PresenceCause, RoutingState

HTTP: Final = "http"
"""The device of an agent who works by HTTP calls alone."""

TICK: Final = timedelta(microseconds=1)
"""The shortest interval: what the database's clock can tell apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a sign of life lasts. All are longer than zero; `grace` is well above the sockets' interval."""

    grace: timedelta = timedelta(seconds=45)
    leave_grace: timedelta = timedelta(seconds=5)
    """After a socket closed without sign-out: long enough to reload a page."""
    http_grace: timedelta = timedelta(hours=12)
    stall: timedelta = timedelta(seconds=15)
    """An expiry that is noticed this late means that we were not listening: it is put off by one grace."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was set by hand, in force while `now < until` (None: until changed)."""

    state: RoutingState
    until: datetime | None
    actor: str
    cause: PresenceCause

    def in_force(self, now: datetime) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Agent:
    """All that is known of one agent. `since` is when the present interval of `state` began, aware and in UTC.

    `gone` is how the last device left. `sequence` counts the changes of state.
    """

    id: str
    account_id: str
    state: RoutingState
    cause: PresenceCause
    actor: str
    since: datetime
    choice: Choice | None = None
    devices: tuple[tuple[str, datetime], ...] = ()
    """Device id and when it expires, ordered by id."""
    closing: frozenset[str] = frozenset()
    """Devices whose socket closed and that did not come back yet."""
    gone: PresenceCause = "initial"
    signed_out_at: datetime | None = None
    removed: bool = False
    sequence: int = 0

    def connected(self, now: datetime) -> bool:
        """Whether any device is connected at this moment."""
        return any(now < expires for _, expires in self.devices)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A status was set by hand, by the agent or by a supervisor; it never comes late."""

    choice: Choice
    alive: bool
    """Whether it is a sign of life: the agent's own call, not a supervisor's."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A device is there. `at` may lie in the past (a backlog), and is not trusted beyond now."""

    device: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Left:
    """A device's socket closed, or, with `signed_out`, its user signed out."""

    device: str
    at: datetime
    signed_out: bool = False


@dataclass(frozen=True, slots=True)
class SignedOut:
    """A session ended. Devices with a socket tell it themselves; here it ends the HTTP device."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The directory's word on whether the agent works here."""

    active: bool


Input = Chosen | Beat | Left | SignedOut | Directory


@dataclass(frozen=True, slots=True)
class Change:
    """The effective status changed: `before` ended and `after` began at `after.since`."""

    before: Agent
    after: Agent


def newcomer(agent_id: str, account_id: str, now: datetime) -> Agent:
    """An agent of whom nothing is known yet: offline from now on."""
    return Agent(agent_id, account_id, "offline", "initial", "system", now)


def effective(agent: Agent, now: datetime) -> tuple[RoutingState, PresenceCause, str]:
    """State, cause and actor at this moment: the precedence table above."""
    if agent.removed:
        return "offline", "removed", "system"
    choice = agent.choice if agent.choice is not None and agent.choice.in_force(now) else None
    if choice is not None and choice.state == "offline":
        return "offline", choice.cause, choice.actor
    if not agent.connected(now):
        return "offline", agent.gone, "system"
    if choice is not None:
        return choice.state, choice.cause, choice.actor
    return "available", "connected", f"agent:{agent.id}"


def apply(agent: Agent, given: Input, now: datetime, limits: Limits) -> tuple[Agent, Change | None]:
    """What the agent is after this input, and the change of effective status if it made one."""
    match given:
        case Chosen():
            agent = replace(agent, choice=given.choice)
            if given.choice.state == "offline":
                agent = _without(agent, {HTTP}, "sign_out")
            elif given.alive and not _sockets(agent, now):
                agent = _with(agent, HTTP, now + limits.http_grace)
        case Beat():
            at = min(given.at, now)
            signed_out = agent.signed_out_at is not None and at <= agent.signed_out_at
            if at + limits.grace > now and not signed_out:
                agent = _with(_without(agent, {HTTP}, agent.gone), given.device, at + limits.grace)
        case Left():
            at = min(given.at, now)
            if given.signed_out:
                agent = replace(_without(agent, {given.device, HTTP}, "sign_out"), signed_out_at=at)
            else:
                agent = _closing(agent, given.device, at + limits.leave_grace)
        case SignedOut():
            agent = _without(agent, {HTTP}, "sign_out")
        case Directory():
            agent = replace(agent, removed=not given.active)
            if agent.removed:
                agent = replace(agent, devices=(), closing=frozenset(), choice=None, gone="removed")
    return settle(agent, now)


def tick(agent: Agent, now: datetime, due: datetime, limits: Limits) -> tuple[Agent, Change | None]:
    """Time passed: drop what expired, end choices that are over. `due` is when the alarm should have rung.

    An alarm that rings much later than due means that heartbeats may wait unread: every device gets one more grace.
    """
    if now - due > limits.stall:
        agent = replace(
            agent, devices=tuple((name, max(expires, now + limits.grace)) for name, expires in agent.devices)
        )
    return settle(agent, now)


def settle(agent: Agent, now: datetime) -> tuple[Agent, Change | None]:
    """Bring the recorded state in line with the effective one; a change begins strictly after the last."""
    agent = _expire(agent, now)
    state, cause, actor = effective(agent, now)
    if state == agent.state:
        return agent, None
    after = replace(
        agent, state=state, cause=cause, actor=actor, since=max(now, agent.since + TICK), sequence=agent.sequence + 1
    )
    return after, Change(agent, after)


def deadline(agent: Agent) -> datetime | None:
    """When the effective status may next change by itself; None if time alone changes nothing."""
    moments = [expires for _, expires in agent.devices]
    if agent.choice is not None and agent.choice.until is not None:
        moments.append(agent.choice.until)
    return min(moments, default=None)


def _sockets(agent: Agent, now: datetime) -> bool:
    return any(now < expires for name, expires in agent.devices if name != HTTP)


def _with(agent: Agent, device: str, expires: datetime) -> Agent:
    devices = dict(agent.devices)
    # A heartbeat that comes late never shortens what a later one gave, unless the device was closing.
    if device in agent.closing or expires > devices.get(device, expires - TICK):
        devices[device] = expires
    return replace(agent, devices=tuple(sorted(devices.items())), closing=agent.closing - {device})


def _without(agent: Agent, gone: set[str], cause: PresenceCause) -> Agent:
    left = tuple((name, expires) for name, expires in agent.devices if name not in gone)
    if left == agent.devices:
        return agent
    return replace(agent, devices=left, closing=agent.closing - gone, gone=cause)


def _closing(agent: Agent, device: str, expires: datetime) -> Agent:
    devices = dict(agent.devices)
    if device not in devices:
        return agent
    devices[device] = min(devices[device], expires)
    return replace(agent, devices=tuple(sorted(devices.items())), closing=agent.closing | {device})


def _expire(agent: Agent, now: datetime) -> Agent:
    if agent.choice is not None and not agent.choice.in_force(now):
        agent = replace(agent, choice=None)
    over = {name: expires for name, expires in agent.devices if expires <= now}
    if not over:
        return agent
    last = max(over, key=lambda name: (over[name], name))
    return _without(agent, set(over), "disconnected" if last in agent.closing else "expired")
