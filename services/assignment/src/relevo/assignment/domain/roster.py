"""The agents of a pool, indexed so that the best one for a conversation is found without looking at all of them."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Final, Literal, NamedTuple

from relevo.assignment.domain.policy import Policy
from relevo.contracts.presence import RoutingState


class GroupKey(NamedTuple):
    """Conversations with the same key have the same candidates: inbox, team, and who let it lie and is passed over."""

    inbox_id: str
    team_id: str | None = None
    passed: tuple[str, ...] = ()


Gap = Literal["removed", "other_inboxes", "other_team", "passed"]
"""Why an agent does not work on conversations of an inbox and team."""
Hindrance = Literal["offline", "away", "off_shift", "busy", "at_capacity"]
"""Why an agent gets nothing at present."""
Standing = Literal["free", "free_busy"] | Hindrance
FREE: Final = ("free", "free_busy")
"""Of who gets the next one."""


@dataclass(slots=True)
class Agent:
    """An agent as assignment knows them.

    `load` is the number of open conversations that they hold. `capacity` None: the policy's default. `turn` is the
    pool's counter at their last automatic assignment (0: never): the lowest has waited longest.
    """

    id: str
    name: str = ""
    active: bool = False
    state: RoutingState = "offline"
    state_since: datetime | None = None
    in_shift: bool | None = None
    capacity: int | None = None
    load: int = 0
    turn: int = 0
    last_assigned_at: datetime | None = None
    team_ids: frozenset[str] = frozenset()
    inbox_ids: frozenset[str] | None = frozenset()
    presence_sequence: int = 0
    directory_sequence: int = 0
    left_at: datetime | None = None
    """Since when they are away, or offline: as long as it is the same, whatever it is called."""
    off_shift_at: datetime | None = None
    released_at: datetime | None = None
    """When a conversation left them last."""

    @property
    def idle_since(self) -> datetime | None:
        """Since when they are there, as they are, with nothing to do; None: they have something, or it was never told."""
        known = [at for at in (self.released_at, self.state_since) if at is not None]
        return max(known) if known and not self.load else None

    def limit(self, policy: Policy) -> int:
        """How many open conversations automatic assignment may give."""
        return policy.default_capacity if self.capacity is None else self.capacity

    def gaps(self, key: GroupKey) -> Iterator[Gap]:
        """All that keeps the agent from working on conversations of this inbox and team."""
        inbox, team, passed = key
        if not self.active:
            yield "removed"
        if self.inbox_ids is not None and inbox not in self.inbox_ids:
            yield "other_inboxes"
        if team is not None and team not in self.team_ids:
            yield "other_team"
        if self.id in passed:
            yield "passed"

    def hindrances(self, policy: Policy) -> Iterator[Hindrance]:
        """All that keeps automatic assignment from giving one more, what counts most first."""
        if self.state == "offline":
            yield "offline"
        if self.state == "away":
            yield "away"
        if self.in_shift is False and not policy.out_of_shift:
            yield "off_shift"
        if self.state == "busy" and not policy.busy_as_fallback:
            yield "busy"
        if self.load >= self.limit(policy):
            yield "at_capacity"

    def reaches(self, key: GroupKey) -> bool:
        """Whether the agent works on conversations of this inbox and team."""
        return next(self.gaps(key), None) is None

    def standing(self, policy: Policy) -> Standing:
        """Whether automatic assignment may give one more, or why not."""
        return next(self.hindrances(policy), "free" if self.state == "available" else "free_busy")


@dataclass(slots=True)
class Group:
    """The candidates for one key. `counts` tells how many of them stand how."""

    members: set[str] = field(default_factory=set)
    counts: Counter[Standing] = field(default_factory=Counter)
    heap: list[tuple[int, float, int, str, int]] = field(default_factory=list)
    """Free members, the best first; entries whose last number is not the agent's present stamp are void."""


class Roster:
    """All agents of a pool. Change an agent only between `change` calls, so that the index follows."""

    def __init__(self, agents: Iterable[Agent], policy: Policy) -> None:
        self.agents = {agent.id: agent for agent in agents}
        self.policy = policy
        self.gained = True
        """Somebody became free, or reaches more, since this was last set to False: the queue may be drained."""
        self._groups: dict[GroupKey, Group] = {}
        self._of: dict[str, list[GroupKey]] = {}
        self._standing: dict[str, Standing] = {}
        self._stamp: dict[str, int] = {}
        for agent in self.agents.values():
            self._enter(agent)

    def _enter(self, agent: Agent) -> None:
        self._standing[agent.id] = agent.standing(self.policy)
        self._stamp[agent.id] = 0
        self._of[agent.id] = []

    def agent(self, agent_id: str) -> Agent:
        """The agent; one that nobody told us of yet is made, inactive."""
        found = self.agents.get(agent_id)
        if found is None:
            found = self.agents[agent_id] = Agent(agent_id)
            self._enter(found)
        return found

    def anyone_free(self) -> bool:
        """Whether any agent at all could take one more."""
        return any(self._standing[agent.id] in FREE for agent in self.agents.values() if agent.active)

    def group(self, key: GroupKey) -> Group:
        """The candidates for this inbox and team."""
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Group()
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
        before = self._standing[agent.id]
        after = self._standing[agent.id] = agent.standing(self.policy)
        self._stamp[agent.id] += 1
        if after in FREE and before not in FREE:
            self.gained = True
        for key in self._of[agent.id]:
            group = self._groups[key]
            if after != before:
                group.counts[before] -= 1
                group.counts[after] += 1
            if after in FREE:
                heapq.heappush(group.heap, self._entry(agent))

    def moved(self, agent: Agent) -> None:
        """The agent's name, teams, inboxes or being active changed."""
        self._stamp[agent.id] += 1
        before = self._standing[agent.id]
        self._standing[agent.id] = agent.standing(self.policy)
        self._of[agent.id] = []
        self.gained = True
        for key, group in self._groups.items():
            if agent.id in group.members:
                group.members.discard(agent.id)
                group.counts[before] -= 1
            if agent.reaches(key):
                self._join(key, group, agent)

    def govern(self, policy: Policy) -> None:
        """Another policy from now on."""
        self.policy = policy
        self._groups.clear()
        self.gained = True
        for agent in self.agents.values():
            stamp = self._stamp[agent.id]
            self._enter(agent)
            self._stamp[agent.id] = stamp + 1

    def forget(self, key: GroupKey) -> None:
        """Nobody asks for these candidates any more, as far as is known."""
        for agent_id in self._groups.pop(key, Group()).members:
            self._of[agent_id].remove(key)

    def trim(self, keys: Collection[GroupKey]) -> None:
        """Forget the groups of single conversations that are not among these keys."""
        for key in [key for key in self._groups if key.passed and key not in keys]:
            self.forget(key)

    def _join(self, key: GroupKey, group: Group, agent: Agent) -> None:
        standing = self._standing[agent.id]
        group.members.add(agent.id)
        group.counts[standing] += 1
        self._of[agent.id].append(key)
        if standing in FREE:
            heapq.heappush(group.heap, self._entry(agent))

    def _entry(self, agent: Agent) -> tuple[int, float, int, str, int]:
        # Available ones before busy ones; then by strategy; then who waits longest; then by id, so that it is certain.
        # The share of the capacity is what it would be with one more: 10 and 5 slots take 3 and 1 of four.
        share = 0.0
        if self.policy.strategy == "least_loaded":
            share = (agent.load + 1) / agent.limit(self.policy)
        elif self.policy.strategy == "longest_idle":
            # Who has nothing to do before who has, and among these whoever got something longest ago.
            since = agent.idle_since
            share = inf if agent.load else since.timestamp() if since is not None else -inf
        tier = 0 if agent.state == "available" else 1
        return tier, share, agent.turn, agent.id, self._stamp[agent.id]
