"""The agents of a pool, indexed so that the best one for a conversation is found without looking at all of them."""

import heapq
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Final, Literal, NamedTuple

from relevo.assignment.domain import skills
from relevo.assignment.domain.policy import Policy, Terms
from relevo.assignment.domain.rules import Rules
from relevo.assignment.domain.skills import Needs, Skills
from relevo.assignment.domain.units import UNIT
from relevo.contracts.presence import RoutingState


class GroupKey(NamedTuple):
    """Conversations with the same key have the same candidates: inbox, team, and who let it lie and is passed over.

    `channel` is the inbox's, which never changes; `rule` is the policy's that they go by, empty: none; `needs` is what
    whoever gets them must be able to.
    """

    inbox_id: str
    team_id: str | None = None
    passed: tuple[str, ...] = ()
    channel: str = ""
    rule: str = ""
    needs: Needs = ()


Gap = Literal["removed", "other_inboxes", "other_team", "passed", "unskilled"]
"""Why an agent does not work on conversations of an inbox and team."""
Hindrance = Literal["offline", "away", "off_shift", "not_responding", "busy", "at_capacity", "paced"]
"""Why an agent gets nothing at present."""
Standing = Literal["free", "free_busy"] | Hindrance
FREE: Final = ("free", "free_busy")
"""Of who gets the next one."""


@dataclass(slots=True)
class Agent:
    """An agent as assignment knows them.

    `load` is the number of open conversations that they hold, `offered` of those that are offered to them, and `extra` what
    these take beyond one unit each, in hundredths (negative: less). `capacity` is in units, None: the policy's default. `turn` is the pool's counter at
    their last automatic assignment (0: never): the lowest has waited longest.
    """

    id: str
    name: str = ""
    active: bool = False
    state: RoutingState = "offline"
    state_since: datetime | None = None
    in_shift: bool | None = None
    capacity: int | None = None
    load: int = 0
    extra: int = 0
    turn: int = 0
    last_assigned_at: datetime | None = None
    team_ids: frozenset[str] = frozenset()
    inbox_ids: frozenset[str] | None = frozenset()
    skills: Skills = field(default_factory=dict)
    presence_sequence: int = 0
    directory_sequence: int = 0
    left_at: datetime | None = None
    """Since when they are away, or offline: as long as it is the same, whatever it is called."""
    off_shift_at: datetime | None = None
    released_at: datetime | None = None
    """When a conversation left them last."""
    given: tuple[datetime, ...] = ()
    """When they were given, or offered, the last ones, as far as the policy's pace counts them still; empty without one."""
    offered: int = 0
    unanswered: int = 0
    """How many offers in a row they let pass, in this status."""

    @property
    def belongs(self) -> Hashable:
        """What says on which conversations they work at all."""
        return self.active, self.team_ids, self.inbox_ids, frozenset(self.skills.items())

    @property
    def idle_since(self) -> datetime | None:
        """Since when they are there, as they are, with nothing to do; None: they have something, or it was never told."""
        known = [at for at in (self.released_at, self.state_since) if at is not None]
        return max(known) if known and not self.carried else None

    @property
    def carried(self) -> int:
        """How many conversations they have, or are offered."""
        return self.load + self.offered

    @property
    def used(self) -> int:
        """What these take, in hundredths of a unit."""
        return self.carried * UNIT + self.extra

    def limit(self, terms: Terms | Policy) -> int:
        """Up to how many units automatic assignment may give."""
        return terms.default_capacity if self.capacity is None else self.capacity

    def has_room(self, terms: Terms) -> bool:
        """Whether one more of these fits, as a whole."""
        return self.used + terms.weight <= self.limit(terms) * UNIT

    def gaps(self, key: GroupKey) -> Iterator[Gap]:
        """All that keeps the agent from working on conversations of this inbox and team."""
        inbox, team, passed, *_ = key
        if not self.active:
            yield "removed"
        if self.inbox_ids is not None and inbox not in self.inbox_ids:
            yield "other_inboxes"
        if team is not None and team not in self.team_ids:
            yield "other_team"
        if self.id in passed:
            yield "passed"
        if key.needs and next(skills.lacking(self.skills, key.needs), None) is not None:
            yield "unskilled"

    def hindrances(self, terms: Terms) -> Iterator[Hindrance]:
        """All that keeps automatic assignment from giving one more, what counts most first."""
        if self.state == "offline":
            yield "offline"
        if self.state == "away":
            yield "away"
        if self.in_shift is False and not terms.out_of_shift:
            yield "off_shift"
        if terms.most_unanswered is not None and self.unanswered >= terms.most_unanswered:
            yield "not_responding"
        if self.state == "busy" and not terms.busy_as_fallback:
            yield "busy"
        if not self.has_room(terms):
            yield "at_capacity"
        if terms.pace is not None and terms.pace.full(self.given):
            yield "paced"

    def reaches(self, key: GroupKey) -> bool:
        """Whether the agent works on conversations of this inbox and team."""
        return next(self.gaps(key), None) is None

    def standing(self, terms: Terms) -> Standing:
        """Whether automatic assignment may give one more on these terms, or why not."""
        return next(self.hindrances(terms), "free" if self.state == "available" else "free_busy")


_Entry = tuple[int, float, int, str, int]


@dataclass(slots=True)
class Group:
    """The candidates for one key, on its terms. `counts` tells how many of them stand how."""

    terms: Terms
    members: set[str] = field(default_factory=set)
    counts: Counter[Standing] = field(default_factory=Counter)
    heap: list[_Entry] = field(default_factory=list)
    """Free members, the best first; entries whose last number is not the agent's present stamp are void."""


class Roster:
    """All agents of a pool. Change an agent only between `change` calls, so that the index follows."""

    def __init__(self, agents: Iterable[Agent], policy: Policy) -> None:
        self.agents = {agent.id: agent for agent in agents}
        self.policy = policy
        self.rules = Rules(policy)
        self.gained = True
        """Somebody became free, or reaches more, since this was last set to False: the queue may be drained."""
        self._groups: dict[GroupKey, Group] = {}
        self._of: dict[str, list[GroupKey]] = {}
        self._terms: dict[GroupKey, Terms] = {}
        self._standings: dict[Terms, dict[str, Standing]] = {}
        """How everybody stands, on the terms that somebody asked for."""
        self._stamp: dict[str, int] = {}
        for agent in self.agents.values():
            self._enter(agent)

    def _enter(self, agent: Agent) -> None:
        for terms, standings in self._standings.items():
            standings[agent.id] = agent.standing(terms)
        self._stamp[agent.id] = 0
        self._of[agent.id] = []

    def agent(self, agent_id: str) -> Agent:
        """The agent; one that nobody told us of yet is made, inactive."""
        found = self.agents.get(agent_id)
        if found is None:
            found = self.agents[agent_id] = Agent(agent_id)
            self._enter(found)
        return found

    def put(self, agent: Agent) -> None:
        """What an agent has become elsewhere, in the place of what was known."""
        before = self.agents.get(agent.id)
        self.agents[agent.id] = agent
        if before is None:
            self._enter(agent)
        if before is not None and before.belongs == agent.belongs:
            self.loaded(agent)
        else:
            self.moved(agent)

    def terms(self, key: GroupKey) -> Terms:
        """On which terms conversations of this key are given."""
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = self.policy.terms(key.channel, key.rule)
        return found

    def _standing(self, terms: Terms) -> dict[str, Standing]:
        found = self._standings.get(terms)
        if found is None:
            found = self._standings[terms] = {one.id: one.standing(terms) for one in self.agents.values()}
        return found

    def anyone_free(self, keys: Iterable[GroupKey]) -> bool:
        """Whether any agent at all could take one of these."""
        return any(
            standings[agent.id] in FREE
            for standings in [self._standing(terms) for terms in {self.terms(key) for key in keys}]
            for agent in self.agents.values()
            if agent.active
        )

    def group(self, key: GroupKey) -> Group:
        """The candidates for this inbox and team."""
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Group(self.terms(key))
            for agent in self.agents.values():
                if agent.reaches(key):
                    self._join(key, found, agent)
        return found

    def best(self, key: GroupKey) -> Agent | None:
        """Who gets the next conversation of this key; None when nobody can."""
        heap = self.group(key).heap
        while heap:
            *_, agent_id, stamp = heap[0]
            if stamp == self._stamp[agent_id]:
                return self.agents[agent_id]
            heapq.heappop(heap)
        return None

    def first(self, key: GroupKey, count: int) -> list[Agent]:
        """The best few, in order."""
        heap = self.group(key).heap
        found: list[Agent] = []
        taken = []
        while len(found) < count and (agent := self.best(key)):
            taken.append(heapq.heappop(heap))
            found.append(agent)
        for entry in taken:
            heapq.heappush(heap, entry)
        return found

    def loaded(self, agent: Agent) -> None:
        """The agent's load, turn, state or capacity changed."""
        self._stamp[agent.id] += 1
        before = self._stand_anew(agent)
        for key in self._of[agent.id]:
            group = self._groups[key]
            was, now = before[group.terms], self._standings[group.terms][agent.id]
            if now != was:
                group.counts[was] -= 1
                group.counts[now] += 1
            if now in FREE:
                heapq.heappush(group.heap, self._entry(agent, group.terms))

    def _stand_anew(self, agent: Agent) -> dict[Terms, Standing]:
        """How the agent stood before, on all terms."""
        before = {}
        for terms, standings in self._standings.items():
            was = before[terms] = standings[agent.id]
            standings[agent.id] = agent.standing(terms)
            if was not in FREE and standings[agent.id] in FREE:
                self.gained = True
        return before

    def moved(self, agent: Agent) -> None:
        """The agent's name, teams, inboxes, skills or being active changed."""
        self._stamp[agent.id] += 1
        before = self._stand_anew(agent)
        self._of[agent.id] = []
        self.gained = True
        for key, group in self._groups.items():
            if agent.id in group.members:
                group.members.discard(agent.id)
                group.counts[before[group.terms]] -= 1
            if agent.reaches(key):
                self._join(key, group, agent)

    def govern(self, policy: Policy) -> None:
        """Another policy from now on."""
        self.policy, self.rules = policy, Rules(policy)
        self._groups.clear()
        self._terms.clear()
        self._standings.clear()
        self.gained = True
        for agent in self.agents.values():
            stamp = self._stamp[agent.id]
            self._enter(agent)
            self._stamp[agent.id] = stamp + 1

    def forget(self, key: GroupKey) -> None:
        """Nobody asks for these candidates any more, as far as is known."""
        self._terms.pop(key, None)
        group = self._groups.pop(key, None)
        for agent_id in group.members if group is not None else ():
            self._of[agent_id].remove(key)

    def trim(self, keys: Collection[GroupKey]) -> None:
        """Forget the groups of single conversations that are not among these keys."""
        for key in [key for key in self._terms if key.passed and key not in keys]:
            self.forget(key)

    def _join(self, key: GroupKey, group: Group, agent: Agent) -> None:
        standing = self._standing(group.terms)[agent.id]
        group.members.add(agent.id)
        group.counts[standing] += 1
        self._of[agent.id].append(key)
        if standing in FREE:
            heapq.heappush(group.heap, self._entry(agent, group.terms))

    def _entry(self, agent: Agent, terms: Terms) -> _Entry:
        # Available ones before busy ones; then by strategy; then who waits longest; then by id, so that it is certain.
        # The share of the capacity is what it would be with one more: 10 and 5 slots take 3 and 1 of four.
        share = 0.0
        if terms.strategy == "least_loaded":
            # Shares of capacities up to 10,000 units differ by more than this rounds away: equal ones alone are equal.
            share = (agent.used + terms.weight) / (agent.limit(terms) * UNIT)
        elif terms.strategy == "longest_idle":
            # Who has nothing to do before who has, and among these whoever got something longest ago.
            since = agent.idle_since
            share = inf if agent.carried else since.timestamp() if since is not None else -inf
        elif terms.strategy == "most_skilled":
            share = -sum(agent.skills.get(name, 0) for name in terms.wanted)
        tier = 0 if agent.state == "available" else 1
        return tier, share, agent.turn, agent.id, self._stamp[agent.id]
