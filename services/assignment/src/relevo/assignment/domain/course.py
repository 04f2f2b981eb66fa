"""A pool's whole journal, decided on in memory, and what can be told of a period of it.

A `Course` takes the inputs one by one, as the matcher did, and follows every *turn*: one arrival of a conversation
(opened, or opened again), who held it first, and when it was closed. A `Tally` measures a period of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from relevo.assignment.domain.deciding import take
from relevo.assignment.domain.held import Decision, Held, Refusal
from relevo.assignment.domain.inputs import (
    Assign,
    Closed,
    Described,
    Entry,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Ranked,
    Reopened,
)
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent, Roster
from relevo.assignment.domain.units import UNIT


@dataclass(frozen=True, slots=True)
class Hold:
    """Who got a conversation first, by which input (its place in the journal), and when. `by_hand`: a person or rule chose."""

    place: int = field(compare=False)
    agent_id: str
    at: datetime
    by_hand: bool


@dataclass(slots=True)
class Turn:
    """One arrival of a conversation. `place` is that of the input which brought it; `since` is when its wait began."""

    place: int
    conversation_id: str
    came: datetime
    since: datetime
    first: Hold | None = None
    closed: datetime | None = None

    @property
    def waited(self) -> float | None:
        """Seconds until somebody held it; None when nobody has."""
        return None if self.first is None else max((self.first.at - self.since).total_seconds(), 0.0)


class Course:
    """A pool on its way through its journal. Closed conversations are kept aside: most inputs look at the open ones."""

    def __init__(self) -> None:
        self.pool = Pool(Roster((), Policy()), {})
        self.turns: dict[str, Turn] = {}
        """The latest turn of each conversation."""
        self._aside: dict[str, Held] = {}

    @property
    def roster(self) -> Roster:
        return self.pool.roster

    def known(self, conversation_id: str) -> Held | None:
        """The conversation, open or closed."""
        return self.pool.held.get(conversation_id) or self._aside.get(conversation_id)

    def is_open(self, conversation_id: str) -> bool:
        one = self.known(conversation_id)
        return one is not None and one.state != "closed"

    def take(self, place: int, entry: Entry) -> tuple[list[Decision], Refusal | None]:
        """Decide on one input. `place` numbers the inputs of the journal."""
        pool, given = self.pool, entry.given
        for changed in (pool.changed_agents, pool.changed_held, pool.changed_teams, *pool.due_anew):
            changed.clear()
        named = (
            given.conversation_id
            if isinstance(given, Opened | Reopened | Closed | Ranked | Described | Assign | OfferAnswered)
            else None
        )
        was_open = named is not None and self.is_open(named)
        if named is not None and (aside := self._aside.pop(named, None)):
            pool.held[named] = aside
        refusal = take(pool, entry)
        if named is not None and not was_open and self.is_open(named):
            assert isinstance(given, Opened | Reopened)
            self.turns[named] = Turn(place, named, entry.at, given.at)
        made, pool.decisions = pool.decisions, []
        for one in made:
            turn = self.turns[one.conversation_id]
            if one.kind == "assigned" and one.assignee_id and turn.first is None and turn.closed is None:
                turn.first = Hold(place, one.assignee_id, entry.at, by_hand=one.mode != "automatic")
        if named is not None and was_open and not self.is_open(named):
            self.turns[named].closed = entry.at
        if named is not None and named in pool.held and pool.held[named].state == "closed":
            self._aside[named] = pool.held.pop(named)
        return made, refusal


@dataclass(slots=True)
class _Clock:
    """What an agent has had up to `at`; times are seconds in which they were there."""

    at: datetime
    load: int
    used: int
    full: bool
    there: bool
    given: int = 0
    closed: int = 0
    peak: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    used_seconds: float = 0.0
    full_seconds: float = 0.0

    def go(self, at: datetime, agent: Agent, policy: Policy) -> None:
        passed = max((at - self.at).total_seconds(), 0.0)
        if self.there:
            self.seconds += passed
            self.load_seconds += passed * self.load
            self.used_seconds += passed * self.used
            self.full_seconds += passed * self.full
        self.at, self.load, self.used = max(at, self.at), agent.load, agent.used
        self.full = agent.used + policy.lightest > agent.limit(policy) * UNIT
        self.there = agent.active and agent.state in ("available", "busy")
        self.peak = max(self.peak, agent.load)


@dataclass(frozen=True, slots=True)
class AgentTally:
    """An agent in a period. `mean_open`, `mean_units` (what these took) and `full` (a share from 0 to 1: with no room for
    a conversation of any channel) are over the time that they were there.
    """

    agent_id: str
    name: str
    given: int
    closed: int
    mean_open: float
    mean_units: float
    most_open: int
    full: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A period in figures. Waits are in seconds, of those that somebody got, sorted; `late` waited longer than the limit."""

    came: int
    automatic: int
    by_hand: int
    closed_unheld: int
    waiting: int
    late: int
    waits: tuple[float, ...]
    agents: tuple[AgentTally, ...]


@dataclass(slots=True)
class Tally:
    """Measures [`since`, `until`) of a course. Call `begin` with the state at `since`, `after` for each input, `end` once."""

    since: datetime
    until: datetime
    limit: float
    """Seconds; who waits longer waits too long."""
    turns: list[Turn] = field(default_factory=list)
    _clocks: dict[str, _Clock] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def begin(self, course: Course) -> None:
        self._touch(course, course.roster.agents, self.since)

    def after(self, course: Course, entry: Entry, made: Iterable[Decision]) -> None:
        """Count what an input of the period did."""
        given = entry.given
        everybody = isinstance(given, PolicyEdited)
        self._touch(course, course.roster.agents if everybody else sorted(course.pool.changed_agents), entry.at)
        for one in made:
            if one.kind == "assigned" and one.assignee_id:
                self._clocks[one.assignee_id].given += 1
        if isinstance(given, Opened | Reopened):
            turn = course.turns.get(given.conversation_id)
            if turn is not None and turn.came >= self.since and turn.place not in self._seen:
                self._seen.add(turn.place)
                self.turns.append(turn)
        elif isinstance(given, Closed):
            held = course.known(given.conversation_id)
            if held is not None and held.assignee_id in self._clocks and course.turns[held.id].closed == entry.at:
                self._clocks[held.assignee_id].closed += 1

    def end(self, course: Course) -> Measured:
        self._touch(course, course.roster.agents, self.until)
        agents = course.roster.agents
        waits = sorted(turn.waited for turn in self.turns if turn.waited is not None)
        unheld = [turn for turn in self.turns if turn.first is None]
        return Measured(
            came=len(self.turns),
            automatic=sum(turn.first is not None and not turn.first.by_hand for turn in self.turns),
            by_hand=sum(turn.first is not None and turn.first.by_hand for turn in self.turns),
            closed_unheld=sum(turn.closed is not None for turn in unheld),
            waiting=sum(turn.closed is None for turn in unheld),
            late=sum(wait > self.limit for wait in waits)
            + sum(((turn.closed or self.until) - turn.since).total_seconds() > self.limit for turn in unheld),
            waits=tuple(waits),
            agents=tuple(
                AgentTally(
                    agent_id=agent_id,
                    name=agents[agent_id].name,
                    given=clock.given,
                    closed=clock.closed,
                    mean_open=clock.load_seconds / clock.seconds if clock.seconds else 0.0,
                    mean_units=clock.used_seconds / clock.seconds / UNIT if clock.seconds else 0.0,
                    most_open=clock.peak,
                    full=clock.full_seconds / clock.seconds if clock.seconds else 0.0,
                )
                for agent_id, clock in sorted(self._clocks.items(), key=lambda item: (agents[item[0]].name, item[0]))
                if clock.given or clock.seconds
            ),
        )

    def _touch(self, course: Course, agents: Iterable[str] | Mapping[str, Agent], at: datetime) -> None:
        policy = course.roster.policy
        for agent_id in agents:
            agent = course.roster.agents[agent_id]
            clock = self._clocks.get(agent_id)
            if clock is None:
                clock = self._clocks[agent_id] = _Clock(at, 0, 0, full=False, there=False)
            clock.go(at, agent, policy)


def quantile(ordered: tuple[float, ...], share: float) -> float | None:
    """The nearest-rank quantile of sorted values; None of none."""
    if not ordered:
        return None
    rank = -(-len(ordered) * round(share * 1000) // 1000)
    return ordered[max(rank, 1) - 1]
