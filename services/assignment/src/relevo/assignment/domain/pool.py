"""The matcher: one pool's state, and what every input of its journal does to it.

A pool is an account. Everything is decided in the order of the journal and with the journal's own times, so that the
same journal gives the same decisions whoever decides, and in whatever batches.

Invariants, after every input and `drain`:
- a conversation has at most one holder; an agent's load is the number of open conversations that they hold;
- automatic assignment never lifts a load above its capacity; people may, and what they decide stays;
- nobody who could take a waiting conversation is free while it waits;
- among those an agent can take, the higher rank goes first, then who waits longest.

Conversations that wait are many: only the head of each queue is in memory, and `drain` answers which queues it must
see more of before it can go on.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from relevo.assignment.domain import reasons
from relevo.assignment.domain.inputs import (
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    Entry,
    Mode,
    Opened,
    Policy,
    PolicyEdited,
    Reopened,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.roster import FREE, Agent, GroupKey, Roster
from relevo.contracts.assignment import Reason

State = Literal["assigned", "queued", "unassigned", "closed"]
Refusal = Literal[
    "conversation_not_found",
    "agent_not_found",
    "team_not_found",
    "agent_not_in_team",
    "version_conflict",
    "hand_was_first",
]
Place = tuple[int, datetime, str]
"""Order in a queue: the negated rank, since when it waits, the conversation's id."""

RUNNERS_UP = 3


@dataclass(slots=True)
class Team:
    """A team as assignment knows it."""

    id: str
    name: str = ""
    auto_assign: bool = True
    deleted: bool = False
    sequence: int = 0


@dataclass(slots=True)
class Held:
    """Who holds a conversation. `version` grows by one a change; a closed one keeps showing its last holder."""

    id: str
    inbox_id: str
    channel: str
    state: State
    opened_at: datetime
    version: int = 0
    team_id: str | None = None
    assignee_id: str | None = None
    queued_at: datetime | None = None
    rank: int = 1
    sequence: int = 0
    by_hand: bool = False
    """Somebody left it without an agent on purpose: nothing automatic touches it."""
    kept_for: str | None = None
    """The owner of its contact, whom it waits for."""
    hand_version: int = 0
    """The version that a person decided last; 0: none did."""
    reason: Reason | None = None
    shown_assignee_id: str | None = field(init=False)
    """Assignee and team as the last decision left them: where the next one starts from."""
    shown_team_id: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.shown_assignee_id, self.shown_team_id = self.assignee_id, self.team_id

    @property
    def key(self) -> GroupKey:
        return self.inbox_id, self.team_id

    @property
    def place(self) -> Place:
        assert self.queued_at is not None
        return -self.rank, self.queued_at, self.id


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of who holds a conversation, with everything that explains it."""

    entry: Entry
    conversation_id: str
    version: int
    kind: Literal["assigned", "queued", "unassigned"]
    assignee_id: str | None
    team_id: str | None
    from_assignee_id: str | None
    from_team_id: str | None
    mode: Mode
    actor: str
    reason: Reason
    queued_at: datetime | None
    waited_seconds: float | None
    policy_version: int
    candidates: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    runners_up: tuple[str, ...] = ()


@dataclass(slots=True)
class _Queue:
    """The loaded head of one queue. Everything up to `seen` is loaded; None: nothing yet. `complete`: all of it."""

    heap: list[Place] = field(default_factory=list)
    seen: Place | None = None
    complete: bool = False


class Pool:
    """One account's agents, teams and conversations, as far as they are needed."""

    def __init__(
        self,
        roster: Roster,
        teams: dict[str, Team],
        *,
        turn: int = 0,
        held: Iterable[Held] = (),
        waiting: Iterable[GroupKey] = (),
    ) -> None:
        """`held`: the conversations that the inputs name. `waiting`: the keys that have queued conversations stored."""
        self.roster = roster
        self.teams = teams
        self.held = {one.id: one for one in held}
        self.turn = turn
        self.decisions: list[Decision] = []
        self.changed_agents: set[str] = set()
        self.agents_then: dict[tuple[str, int], Agent] = {}
        """What an agent became, by their id and by how many decisions had been made before."""
        self.changed_held: set[str] = set()
        self.changed_teams: set[str] = set()
        self._queues: dict[GroupKey, _Queue] = {key: _Queue() for key in waiting}

    @property
    def policy(self) -> Policy:
        return self.roster.policy

    def apply(self, entry: Entry) -> Refusal | None:
        """Take one input; call `drain` until it answers nothing before the next one.

        Answers why not, when the input asks for something that cannot be.
        """
        match entry.given:
            case Opened() | Reopened():
                self._opened(entry, entry.given)
            case Closed():
                self._closed(entry, entry.given)
            case StatusGiven():
                self._status(entry, entry.given)
            case AgentEdited():
                self._agent(entry, entry.given)
            case TeamEdited():
                self._team(entry, entry.given)
            case Assign():
                return self._assign(entry, entry.given)
            case PolicyEdited():
                self.roster.govern(entry.given.policy)
            case CapacitySet():
                agent = self.roster.agent(entry.given.agent_id)
                agent.capacity = entry.given.capacity
                self._touch(agent)
        return None

    def drain(self, entry: Entry) -> set[GroupKey]:
        """Give waiting conversations to whoever is free, until nobody is or nothing waits.

        Answers the keys whose queues must be extended first (see `extend`), empty when all is done.
        """
        roster = self.roster
        if not roster.gained:
            return set()
        if not roster.anyone_free():
            roster.gained = False
            return set()
        while True:
            first: Held | None = None
            short: set[GroupKey] = set()
            for key, queue in list(self._queues.items()):
                if roster.best(key) is None:
                    continue
                head = self._head(key, queue)
                if head is None:
                    if queue.complete:
                        del self._queues[key]
                    else:
                        short.add(key)
                elif first is None or head.place < first.place:
                    first = head
            if short:
                return short
            if first is None:
                roster.gained = False
                return set()
            self._give(entry, first)

    def seen(self, key: GroupKey) -> Place | None:
        """Up to where this queue has been loaded."""
        return self._queues[key].seen

    def extend(self, key: GroupKey, more: Collection[Held], *, complete: bool) -> None:
        """Add the conversations that wait next in a queue, in order, as stored; `complete`: there are no more."""
        queue = self._queues[key]
        queue.complete = complete
        for one in more:
            queue.seen = one.place
            # What the journal has changed already is nearer the truth than what is stored.
            known = self.held.setdefault(one.id, one)
            if known.state == "queued" and known.key == key:
                heapq.heappush(queue.heap, known.place)

    # What inputs do.

    def _opened(self, entry: Entry, given: Opened | Reopened) -> None:
        held = self.held.get(given.conversation_id)
        if held is not None and given.sequence <= held.sequence:
            return
        if held is None:
            held = self.held[given.conversation_id] = Held(
                given.conversation_id, given.inbox_id, given.channel, "unassigned", given.at, team_id=given.team_id
            )
        elif held.state != "closed":
            held.sequence = given.sequence
            self.changed_held.add(held.id)
            return
        held.sequence, held.rank, held.opened_at, held.by_hand = given.sequence, given.rank, given.at, False
        held.state = "unassigned"
        if held.team_id and held.team_id in self.teams and self.teams[held.team_id].deleted:
            held.team_id = None
        before = held.assignee_id
        if self.policy.owner_first and held.team_id is None and self._team_stands(given.owner_team_id):
            held.team_id = given.owner_team_id
        last = self.roster.agents.get(before) if before else None
        held.assignee_id = None
        self.changed_held.add(held.id)
        if self._to_owner(entry, held, given.owner_id):
            return
        if last is not None and last.reaches(held.key) and last.standing(self.policy) in FREE:
            self._hold(held, last, entry)
            self._decide(entry, held, "assigned", reasons.same_agent(last.name))
            return
        self._route(entry, held, since=given.at)

    def _to_owner(self, entry: Entry, held: Held, owner_id: str | None) -> bool:
        """To the owner of its contact, or aside until they are there, as the policy says; tells whether that was done."""
        owner = self.roster.agents.get(owner_id) if owner_id and self.policy.owner_first else None
        if owner is None or not owner.reaches(held.key):
            return False
        standing = owner.standing(self.policy)
        if standing in FREE:
            self._hold(held, owner, entry)
            self._decide(entry, held, "assigned", reasons.owner(owner.name))
            return True
        if standing in ("offline", "away", "off_shift") and self.policy.owner_absent == "wait":
            held.kept_for = owner.id
            self._lay_down(entry, held, reasons.owner_absent(owner.name))
            return True
        return False

    def _team_stands(self, team_id: str | None) -> bool:
        return team_id is not None and team_id in self.teams and not self.teams[team_id].deleted

    def _closed(self, entry: Entry, given: Closed) -> None:
        held = self.held.get(given.conversation_id)
        if held is None or given.sequence <= held.sequence:
            return
        held.sequence = given.sequence
        self.changed_held.add(held.id)
        before, holder = held.state, held.assignee_id
        self._release(held)
        held.state, held.kept_for = "closed", None
        held.assignee_id = holder
        if before == "queued":
            held.queued_at = None
            self._decide(entry, held, "unassigned", reasons.resolved())

    def _status(self, entry: Entry, given: StatusGiven) -> None:
        agent = self.roster.agent(given.agent_id)
        if given.sequence <= agent.presence_sequence:
            return
        agent.presence_sequence = given.sequence
        agent.state, agent.state_since, agent.in_shift = given.state, given.since, given.in_shift
        self._touch(agent)
        for held in self._where(lambda one: one.kept_for == agent.id and one.state == "unassigned"):
            if agent.standing(self.policy) not in FREE:
                break
            self._hold(held, agent, entry)
            self._decide(entry, held, "assigned", reasons.owner(agent.name))

    def _agent(self, entry: Entry, given: AgentEdited) -> None:
        agent = self.roster.agent(given.agent_id)
        if given.sequence <= agent.directory_sequence:
            return
        was_active = agent.active
        agent.directory_sequence = given.sequence
        agent.name, agent.active = given.name, given.active
        agent.team_ids = frozenset(given.team_ids)
        agent.inbox_ids = None if given.inbox_ids is None else frozenset(given.inbox_ids)
        self.roster.moved(agent)
        self._note(agent)
        if was_active and not agent.active:
            why = reasons.agent_removed(agent.name)
            for held in self._where(lambda one: one.state == "assigned" and one.assignee_id == agent.id):
                self._release(held)
                self._wait(entry, held, since=entry.at, why=why)

    def _team(self, entry: Entry, given: TeamEdited) -> None:
        team = self.teams.setdefault(given.team_id, Team(given.team_id))
        if given.sequence <= team.sequence:
            return
        handed_out = team.auto_assign and not team.deleted
        team.sequence, team.name = given.sequence, given.name
        team.auto_assign, team.deleted = given.auto_assign, given.deleted
        self.changed_teams.add(team.id)
        why = reasons.team_changed(team.name, deleted=team.deleted)
        if team.deleted:
            for held in self._where(lambda one: one.team_id == team.id and one.state != "closed"):
                self._leave_team(entry, held, why)
        elif team.auto_assign and not handed_out:
            for held in self._where(
                lambda one: (
                    one.team_id == team.id and one.state == "unassigned" and not one.by_hand and one.kept_for is None
                )
            ):
                self._wait(entry, held, since=entry.at, why=why)
        elif handed_out and not team.auto_assign:
            for held in self._where(lambda one: one.team_id == team.id and one.state == "queued"):
                self._lay_down(entry, held, why)

    def _leave_team(self, entry: Entry, held: Held, why: Reason) -> None:
        held.team_id = None
        if held.state == "queued" or (held.state == "unassigned" and not held.by_hand):
            self._wait(entry, held, since=held.queued_at or entry.at, why=why)
        else:
            self._decide(entry, held, "assigned" if held.assignee_id else "unassigned", why)

    def _assign(self, entry: Entry, given: Assign) -> Refusal | None:
        held = self.held.get(given.conversation_id)
        if held is None:
            return "conversation_not_found"
        if given.expected_version is not None and given.expected_version != held.version:
            return "version_conflict"
        if given.seen_version is not None and held.hand_version > given.seen_version:
            return "hand_was_first"
        team_id = given.team_id if given.set_team else held.team_id
        team = self.teams.get(team_id) if team_id else None
        if given.set_team and team_id and (team is None or team.deleted):
            return "team_not_found"
        new = self.roster.agents.get(given.assignee_id) if given.assignee_id else None
        if given.assignee_id and (new is None or not new.active):
            return "agent_not_found"
        if new is not None and given.set_team and team_id and team_id not in new.team_ids:
            return "agent_not_in_team"
        old = self.roster.agents.get(held.assignee_id) if held.assignee_id else None
        if not given.set_assignee:
            new = old if old is not None and (team_id is None or team_id in old.team_ids) else None
        self._settle(entry, given, held, team_id, new)
        return None

    def _settle(self, entry: Entry, given: Assign, held: Held, team_id: str | None, new: Agent | None) -> None:
        """Carry out what somebody decided, once it is known to be possible."""
        state, waits_since = held.state, held.queued_at
        nobody = given.set_assignee and new is None
        if (held.assignee_id, held.team_id) == (new.id if new else None, team_id) and (
            new is not None or state == "closed" or not nobody or (held.by_hand and state == "unassigned")
        ):
            return
        why = self._hand(given, team_id, new)
        self._release(held)
        held.team_id, held.queued_at, held.kept_for = team_id, None, None
        if state == "closed":
            held.state, held.assignee_id = "closed", new.id if new else None
            self._decide(entry, held, "assigned" if new else "unassigned", why)
        elif new is not None:
            self._hold(held, new, entry)
            self._decide(entry, held, "assigned", why, since=waits_since)
        elif nobody or (held.by_hand and team_id is None):
            held.by_hand = True
            self._decide(entry, held, "unassigned", why)
        else:
            held.by_hand = False
            self._route(entry, held, since=waits_since or entry.at, after=why)
        if given.mode == "manual":
            held.hand_version = held.version

    def _hand(self, given: Assign, team_id: str | None, new: Agent | None) -> Reason:
        assignee_id = new.id if given.set_assignee and new else None
        assignee = new.name if given.set_assignee and new else ""
        team = self._team_name(team_id) if given.set_team else None
        if given.mode == "automation":
            return reasons.by_rule(assignee_id, assignee, team)
        who = self.roster.agents.get(given.actor.removeprefix("agent:"))
        return reasons.by_hand(given.actor, who.name if who else "", assignee_id, assignee, team)

    # How conversations move.

    def _route(self, entry: Entry, held: Held, *, since: datetime, after: Reason | None = None) -> None:
        """A conversation without an agent: to the best one, else it waits, else (its team decides) it lies there.

        `after` is what somebody did that led here.
        """
        if not self._automatic(held.team_id):
            why = reasons.team_by_hand(self._team_name(held.team_id) or "")
            self._lay_down(entry, held, reasons.joined(after, why))
        elif self.roster.best(held.key) is None or (held.key in self._queues and self.roster.gained):
            # Whoever waits longer goes first: what is queued already is served by the next drain, this one with it.
            why = reasons.nobody(self.roster.group(held.key))
            self._wait(entry, held, since=since, why=reasons.joined(after, why))
        else:
            held.queued_at = since
            self._give(entry, held, after=after)

    def _give(self, entry: Entry, held: Held, *, after: Reason | None = None) -> None:
        """To the best agent, who must exist."""
        roster = self.roster
        first = roster.first(held.key, 1 + RUNNERS_UP)
        agent = first[0]
        group = roster.group(held.key)
        why = reasons.chosen(self.policy.strategy, agent.name, group, agent.load, agent.limit(self.policy))
        excluded, since = reasons.excluded(group), held.queued_at
        self.turn += 1
        agent.turn = self.turn
        self._hold(held, agent, entry)
        self._decide(
            entry,
            held,
            "assigned",
            reasons.joined(after, why),
            since=since,
            candidates=len(group.members),
            excluded=excluded,
            runners_up=tuple(one.id for one in first[1:]),
        )

    def _wait(self, entry: Entry, held: Held, *, since: datetime, why: Reason) -> None:
        """Into the queue of its key; or, where the team hands out by hand, aside."""
        if not self._automatic(held.team_id):
            self._lay_down(entry, held, why)
            return
        held.state, held.queued_at = "queued", since
        queue = self._queues.get(held.key)
        if queue is None:
            queue = self._queues[held.key] = _Queue(complete=True)
        heapq.heappush(queue.heap, held.place)
        group = self.roster.group(held.key)
        if self.roster.best(held.key) is not None:
            self.roster.gained = True
        self._decide(entry, held, "queued", why, candidates=len(group.members), excluded=reasons.excluded(group))

    def _lay_down(self, entry: Entry, held: Held, why: Reason) -> None:
        held.state, held.queued_at = "unassigned", None
        self._decide(entry, held, "unassigned", why)

    def _hold(self, held: Held, agent: Agent, entry: Entry) -> None:
        held.state, held.assignee_id, held.queued_at, held.by_hand = "assigned", agent.id, None, False
        held.kept_for = None
        agent.load += 1
        agent.last_assigned_at = entry.at
        self._touch(agent)

    def _release(self, held: Held) -> None:
        """Take it from whoever holds it; the caller sets the new state."""
        if held.state == "assigned" and held.assignee_id is not None:
            agent = self.roster.agent(held.assignee_id)
            agent.load -= 1
            self._touch(agent)
        held.assignee_id = None
        held.state = "unassigned"

    def _touch(self, agent: Agent) -> None:
        self.roster.loaded(agent)
        self._note(agent)

    def _note(self, agent: Agent) -> None:
        self.changed_agents.add(agent.id)
        self.agents_then[agent.id, len(self.decisions)] = copy(agent)

    def _head(self, key: GroupKey, queue: _Queue) -> Held | None:
        """The first that waits in a queue, None when it is not loaded (or, if complete, when there is none)."""
        heap = queue.heap
        while heap:
            held = self.held.get(heap[0][2])
            if held is not None and held.state == "queued" and held.key == key and held.place == heap[0]:
                # One queued just now may stand behind stored ones that were not loaded yet.
                return held if queue.complete or (queue.seen is not None and heap[0] <= queue.seen) else None
            heapq.heappop(heap)
        return None

    def _where(self, wanted: Callable[[Held], bool]) -> list[Held]:
        return sorted((one for one in self.held.values() if wanted(one)), key=_age)

    def _automatic(self, team_id: str | None) -> bool:
        team = self.teams.get(team_id) if team_id else None
        return team is None or team.auto_assign

    def _team_name(self, team_id: str | None) -> str | None:
        team = self.teams.get(team_id) if team_id else None
        return team.name if team else None

    def _decide(
        self,
        entry: Entry,
        held: Held,
        kind: Literal["assigned", "queued", "unassigned"],
        why: Reason,
        *,
        since: datetime | None = None,
        candidates: int = 0,
        excluded: Mapping[str, int] | None = None,
        runners_up: tuple[str, ...] = (),
    ) -> None:
        """Note what the conversation has become. `since`: when its wait, which ends here, began."""
        given = entry.given
        hand = given if isinstance(given, Assign) and given.conversation_id == held.id else None
        held.version += 1
        held.reason = why
        self.changed_held.add(held.id)
        self.decisions.append(
            Decision(
                entry=entry,
                conversation_id=held.id,
                version=held.version,
                kind=kind,
                assignee_id=held.assignee_id,
                team_id=held.team_id,
                from_assignee_id=held.shown_assignee_id,
                from_team_id=held.shown_team_id,
                mode=hand.mode if hand else "automatic",
                actor=hand.actor if hand else "system",
                reason=why,
                queued_at=held.queued_at,
                waited_seconds=None if since is None else max((entry.at - since).total_seconds(), 0.0),
                policy_version=self.policy.version,
                candidates=candidates,
                excluded=excluded or {},
                runners_up=runners_up,
            )
        )
        held.shown_assignee_id, held.shown_team_id = held.assignee_id, held.team_id


def _age(held: Held) -> tuple[int, datetime, str]:
    return -held.rank, held.opened_at, held.id


def take(pool: Pool, entry: Entry) -> Refusal | None:
    """Take one input on a pool whose queues are wholly in memory, and give what waits; answers why not, as `apply` does."""
    refusal = pool.apply(entry)
    short = pool.drain(entry)
    assert not short, f"queues {short} are not in memory"
    return refusal


def decide(pool: Pool, entries: Iterable[Entry]) -> list[Decision]:
    """Every decision that these inputs lead to on a pool whose queues are wholly in memory."""
    for entry in entries:
        take(pool, entry)
    return pool.decisions
