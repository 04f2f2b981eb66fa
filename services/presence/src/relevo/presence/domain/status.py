"""The effective status of an agent, as a pure function of what is known, and how each input changes it.

Which of the things known decides is `precedence.py`'s; here is what is known, and how inputs and time change it. An interval
of the history is one state, one named status, and one answer to whether it is within a shift.

A device is connected until its `expires_at`. Sockets renew theirs with heartbeats. Who works by HTTP alone has no
heartbeats: there the choice itself is the sign of life, as a device named HTTP that lasts `http_grace` (a working day:
long enough to need no second call in a shift, bounded so that nobody who forgot to leave gets work for ever). It is
made only when no socket lives and goes as soon as one does, so that for people with a browser sockets alone count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from relevo.contracts.presence import PresenceCause, RoutingState
from relevo.kernel.business_time import Calendar
from relevo.presence.domain.precedence import Choice, Effective, Known, effective_of
from relevo.presence.domain.rules import NO_RULES, Rules
from relevo.presence.domain.shifts import Shift, shift_at

HTTP: Final = "http"
"""The device of an agent who works by HTTP calls alone."""

TICK: Final = timedelta(microseconds=1)
"""The shortest interval: what the database's clock can tell apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a sign of life lasts. All are longer than zero."""

    heartbeat: timedelta = timedelta(seconds=15)
    """How often a socket gives one."""
    grace: timedelta = timedelta(seconds=30)
    """How late the next may be; well above the interval, so that nobody flaps."""
    leave_grace: timedelta = timedelta(seconds=5)
    """After a socket closed without sign-out: long enough to reload a page."""
    http_grace: timedelta = timedelta(hours=12)
    stall: timedelta = timedelta(seconds=15)
    """An expiry that is noticed this late means that we were not listening: it is put off by one life."""

    @property
    def life(self) -> timedelta:
        """How long one heartbeat makes a device connected: until the next is late by the grace."""
        return self.heartbeat + self.grace


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for an agent and is not theirs: the account's rules, and the calendars of their shifts."""

    rules: Rules = NO_RULES
    calendars: tuple[Calendar, ...] = ()


PLAIN: Final = Setting()


@dataclass(frozen=True, slots=True)
class Agent:
    """All that is known of one agent. `since` is when the present interval began, aware and in UTC.

    `gone` is how the last device left. `sequence` counts the intervals.
    """

    id: str
    account_id: str
    state: RoutingState
    cause: PresenceCause
    actor: str
    since: datetime
    label: str | None = None
    """The named status, its id."""
    choice: Choice | None = None
    devices: tuple[tuple[str, datetime], ...] = ()
    """Device id and when it expires, ordered by id."""
    closing: frozenset[str] = frozenset()
    """Devices whose socket closed and that did not come back yet."""
    gone: PresenceCause = "initial"
    signed_out_at: datetime | None = None
    removed: bool = False
    open: int = 0
    """Open conversations held, as assignment last told."""
    capacity: int | None = None
    crowded: bool = False
    acted_at: datetime | None = None
    """The last sign of the person at any device; None: nothing tells, and nobody is taken for idle."""
    working_since: datetime | None = None
    """When they signed in, their shift began, or their last break ended, whichever came last; None while not there."""
    received: int = 0
    """Conversations received since then."""
    warned_at: datetime | None = None
    put_off: bool = False
    resting: bool = False
    shift: Shift | None = None
    in_shift: bool | None = None
    """What the present interval is recorded with."""
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
    """A device is there. `at` may lie in the past (a backlog), and is not trusted beyond now.

    `acted_at` is when somebody last touched it, None where the device does not tell.
    """

    device: str
    at: datetime
    acted_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """Assignment's word on how many open conversations the agent holds and may hold, and how many they just got."""

    open: int
    capacity: int | None
    received: int = 0


@dataclass(frozen=True, slots=True)
class PutOff:
    """The agent asks for a little more time before the break. Only once before each."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Nothing came, but rules or shifts may have changed."""


Input = Chosen | Beat | Left | SignedOut | Directory | Loaded | PutOff | Looked


@dataclass(frozen=True, slots=True)
class Change:
    """The effective status changed: `before` ended and `after` began at `after.since`."""

    before: Agent
    after: Agent


def newcomer(agent_id: str, account_id: str, now: datetime) -> Agent:
    """An agent of whom nothing is known yet: offline from now on."""
    return Agent(agent_id, account_id, "offline", "initial", "system", now)


def known(agent: Agent, setting: Setting, now: datetime) -> Known:
    """What decides, at this moment."""
    rules = setting.rules
    choice = agent.choice if agent.choice is not None and agent.choice.in_force(now) else None
    shift = agent.shift.open if agent.shift is not None else None
    ended = agent.shift.since if agent.shift is not None and shift is False else None
    idle = _idle_at(agent, rules)
    return Known(
        agent_id=agent.id,
        removed=agent.removed,
        choice=choice,
        connected=agent.connected(now),
        gone=agent.gone,
        sent_home=ended is not None
        and rules.at_shift_end == "offline"
        and agent.working_since is not None
        and agent.working_since < ended
        and (choice is None or choice.at < ended),
        rest=rules.rest if agent.resting else None,
        crowded=agent.crowded,
        open=agent.open,
        limit=rules.limit(agent.capacity),
        idle=idle is not None and idle <= now,
    )


def effective(agent: Agent, setting: Setting, now: datetime) -> Effective:
    """State, named status, cause and actor at this moment."""
    return effective_of(known(agent, setting, now))


def apply(
    agent: Agent, given: Input, now: datetime, limits: Limits, setting: Setting = PLAIN
) -> tuple[Agent, Change | None]:
    """What the agent is after this input, and the change of effective status if it made one."""
    match given:
        case Chosen():
            agent = replace(agent, choice=given.choice)
            if given.alive:
                agent = _acted(agent, now)
                if given.choice.state == "available":
                    agent = _rested(agent, now)
            if given.choice.state == "offline":
                agent = _without(agent, {HTTP}, "sign_out")
            elif given.alive and not _sockets(agent, now):
                agent = _with(agent, HTTP, now + limits.http_grace)
        case Beat():
            at = min(given.at, now)
            signed_out = agent.signed_out_at is not None and at <= agent.signed_out_at
            if at + limits.life > now and not signed_out:
                agent = _with(_without(agent, {HTTP}, agent.gone), given.device, at + limits.life)
                if given.acted_at is not None:
                    agent = _acted(agent, min(given.acted_at, now))
        case Left():
            at = min(given.at, now)
            if given.signed_out:
                agent = replace(_without(agent, {given.device, HTTP}, "sign_out"), signed_out_at=at)
            else:
                agent = _closing(agent, given.device, at + limits.leave_grace)
        case SignedOut():
            agent = _without(agent, {HTTP}, "sign_out")
        case Directory():
            # Teams may have changed, and with them shifts.
            agent = replace(agent, removed=not given.active, shift=None)
            if agent.removed:
                agent = replace(agent, devices=(), closing=frozenset(), choice=None, gone="removed")
        case Loaded():
            agent = replace(agent, open=given.open, capacity=given.capacity, received=agent.received + given.received)
        case PutOff():
            agent = replace(agent, put_off=agent.put_off or agent.warned_at is not None)
        case Looked():
            agent = replace(agent, shift=None)
    return settle(agent, now, setting)


def tick(
    agent: Agent, now: datetime, due: datetime, limits: Limits, setting: Setting = PLAIN
) -> tuple[Agent, Change | None]:
    """Time passed: drop what expired, end choices that are over. `due` is when the alarm should have rung.

    An alarm that rings much later than due means that heartbeats may wait unread: every device gets one more life.
    """
    if now - due > limits.stall:
        agent = replace(
            agent, devices=tuple((name, max(expires, now + limits.life)) for name, expires in agent.devices)
        )
    return settle(agent, now, setting)


def settle(agent: Agent, now: datetime, setting: Setting = PLAIN) -> tuple[Agent, Change | None]:
    """Bring the recorded status in line with the effective one; a change begins strictly after the last."""
    agent = _ruled(_at_work(_shifted(_expire(agent, now), now, setting.calendars), now), now, setting.rules)
    found = effective(agent, setting, now)
    in_shift = agent.shift.open if agent.shift is not None else None
    if (found.state, found.label, in_shift) == (agent.state, agent.label, agent.in_shift):
        return agent, None
    after = replace(
        agent,
        state=found.state,
        label=found.label,
        cause=found.cause,
        actor=found.actor,
        in_shift=in_shift,
        since=max(now, agent.since + TICK),
        sequence=agent.sequence + 1,
    )
    return after, Change(agent, after)


def deadline(agent: Agent, now: datetime, setting: Setting = PLAIN) -> datetime | None:
    """When the effective status may next change by itself; None if time alone changes nothing. `agent` is settled at `now`."""
    rules = setting.rules
    moments = [expires for _, expires in agent.devices]
    if agent.choice is not None and agent.choice.until is not None:
        moments.append(agent.choice.until)
    if agent.shift is not None and agent.shift.open is not None:
        moments.append(agent.shift.until)
    # The rules wait for nobody who is not there.
    if agent.devices and not agent.removed:
        if (rest := _next_of_rest(agent, rules)) is not None:
            moments.append(rest)
        if (idle := _idle_at(agent, rules)) is not None:
            moments.append(idle)
    return min((moment for moment in moments if moment > now), default=None)


def _shifted(agent: Agent, now: datetime, calendars: Sequence[Calendar]) -> Agent:
    before = agent.shift
    if not calendars:
        return agent if before is None else replace(agent, shift=None)
    if before is not None and before.covers(now):
        return agent
    found = shift_at(calendars, now)
    if before is not None and now >= before.until:
        # Noticed late or not, it changed when it was to change.
        found = replace(found, since=before.since if found.open == before.open else before.until)
    return replace(agent, shift=found)


def _at_work(agent: Agent, now: datetime) -> Agent:
    """Whether they are there, and since when what the rules count is counted."""
    if agent.removed or not agent.connected(now):
        if agent.working_since is None:
            return agent
        return replace(agent, working_since=None, received=0, warned_at=None, put_off=False, resting=False)
    begins = agent.working_since or now
    if agent.shift is not None and agent.shift.open:
        begins = max(begins, min(agent.shift.since, now))
    return agent if begins == agent.working_since else _anew(agent, begins)


def _ruled(agent: Agent, now: datetime, rules: Rules) -> Agent:
    crowded = rules.crowded(agent.crowded, agent.open, agent.capacity)
    if crowded != agent.crowded:
        agent = replace(agent, crowded=crowded)
    if rules.rest is None:
        if agent.resting or agent.warned_at is not None:
            agent = replace(agent, resting=False, warned_at=None, put_off=False)
        return agent
    if agent.resting or agent.working_since is None:
        return agent
    many = rules.rest_after_received is not None and agent.received >= rules.rest_after_received
    long = rules.rest_after is not None and now >= agent.working_since + rules.rest_after
    if agent.warned_at is None and (many or long):
        agent = replace(agent, warned_at=now)
    begins = rest_begins(agent, rules)
    if begins is not None and now >= begins:
        agent = replace(agent, resting=True, warned_at=None, put_off=False)
    return agent


def rest_begins(agent: Agent, rules: Rules) -> datetime | None:
    """When the break begins that the agent was told of; None when none was announced."""
    if agent.warned_at is None:
        return None
    return agent.warned_at + rules.warning + (rules.put_off if agent.put_off else timedelta())


def _next_of_rest(agent: Agent, rules: Rules) -> datetime | None:
    if rules.rest is None or agent.resting or agent.working_since is None:
        return None
    if agent.warned_at is None:
        return agent.working_since + rules.rest_after if rules.rest_after is not None else None
    return rest_begins(agent, rules)


def _rested(agent: Agent, now: datetime) -> Agent:
    # Who is available and says so again has not rested.
    back = agent.resting or (agent.state not in ("available", "offline") and agent.cause in ("manual", "supervisor"))
    return _anew(agent, now) if back and agent.working_since is not None else agent


def _anew(agent: Agent, since: datetime) -> Agent:
    return replace(agent, working_since=since, received=0, warned_at=None, put_off=False, resting=False)


def _idle_at(agent: Agent, rules: Rules) -> datetime | None:
    if rules.away_after is None or agent.acted_at is None:
        return None
    return agent.acted_at + rules.away_after


def _acted(agent: Agent, at: datetime) -> Agent:
    return agent if agent.acted_at is not None and at <= agent.acted_at else replace(agent, acted_at=at)


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
