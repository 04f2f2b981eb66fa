"""One pool's state, and how conversations move in it; `deciding` says what each input of its journal does to it.

A pool is an account. Everything is decided in the order of the journal and with the journal's own times, so that the
same journal gives the same decisions whoever decides, and in whatever batches.

Invariants, after every input and `drain`:
- a conversation has at most one holder, or is offered to at most one agent and has none; an agent's load is the number of
  open conversations that they hold, and what they have taken of their capacity is the sum of what these weigh, and what is
  offered to them;
- nobody is offered what they declined, as long as it waits;
- automatic assignment never lifts what is taken above the capacity; people may, and what they decide stays, and so may
  a customer who writes where they were waited for, which makes a conversation weigh more: nothing more is given then;
- within the policy's pace nobody is given more, by what they were given automatically;
- nobody who could take a waiting conversation, all of it, is free while it waits;
- among those an agent can take, the higher rank goes first, then who waits longest; or whoever waits longest, each rank
  counted as so much waiting.

Conversations that wait are many: only the head of each queue is in memory, and `drain` answers which queues it must
see more of before it can go on.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from relevo.assignment.domain import reasons, skills
from relevo.assignment.domain.held import Decision, Ended, Had, Held, Place, Team
from relevo.assignment.domain.inputs import Assign, Entry
from relevo.assignment.domain.policy import Policy, Terms
from relevo.assignment.domain.roster import FREE, Agent, GroupKey, Roster
from relevo.assignment.domain.skills import Needs
from relevo.assignment.domain.stays import Stay
from relevo.assignment.domain.units import UNIT
from relevo.contracts.assignment import DeclineReason, Outcome, Reason

RUNNERS_UP = 3


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
        had: Mapping[str, Had] | None = None,
    ) -> None:
        """`held`: the conversations that the inputs name. `waiting`: the keys that have queued conversations stored.

        `had`: who had the last one of each contact of these, where the policy, or one among the inputs, asks for it.
        """
        self.roster = roster
        self.teams = teams
        self.held = {one.id: one for one in held}
        self.turn = turn
        self.decisions: list[Decision] = []
        self.changed_agents: set[str] = set()
        self.agents_then: dict[tuple[str, int], Agent] = {}
        """What an agent became, by their id and by how many decisions had been made before."""
        self.noted_at: dict[tuple[str, int], datetime] = {}
        """By which moment's input."""
        self.changed_held: set[str] = set()
        self.changed_teams: set[str] = set()
        self.stays: list[Stay] = []
        """What ended: who was with whom, or waited, from when to when."""
        self._had = dict(had or {})
        self._moved: set[str] = set()
        self._noted: set[tuple[str, int]] = set()
        self.to_tell: set[str] = set()
        """The conversations whose customers are to be told how long they will wait."""
        self.due_anew: tuple[set[str], set[str]] = set(), set()
        """Conversations and agents that may be due at another moment than they were, though they are the same."""
        self._queues: dict[GroupKey, _Queue] = {key: _Queue() for key in waiting}
        roster.trim(self._queues)

    @property
    def policy(self) -> Policy:
        return self.roster.policy

    def policy_for(self, held: Held) -> Policy:
        """The policy as it is for this conversation."""
        return self.policy.under(held.rule)

    def rule_anew(self, held: Held) -> bool:
        """Which rule it goes by, as things are; tells whether that is another one than before. Its queue is the caller's."""
        before, held.rule = held.rule, self.roster.rules.of(held)
        return held.rule != before

    def to_team_of_rule(self, held: Held) -> None:
        """The owner and the last agent come before it, what a person decided stands."""
        team_id = self.policy.team_of(held.rule)
        if self.team_stands(team_id) and not held.hand_version:
            held.team_id = team_id

    def go_by_rule(self, entry: Entry, held: Held) -> None:
        """What rules look at is otherwise, or what they say: what waits goes by the rule that fits now, at its place."""
        another = self.rule_anew(held)
        if another:
            self.changed(held)
        if another and held.state == "offered":
            team_id = held.team_id
            agent = self.end_offer(held, "withdrawn")
            self.to_team_of_rule(held)
            held.wait_anew()
            if held.team_id != team_id:
                held.held_since = None
            self.go_on(entry, held, reasons.another_rule_than_offered(agent.name))
            return
        if held.state != "queued" or held.queued_at is None:
            return
        before = held.team_id
        if another:
            self.to_team_of_rule(held)
        if held.team_id != before:
            held.wait_anew()
            why = reasons.by_routing_rule(held.rule, self.team_name(held.team_id) or "")
            self.wait(entry, held, since=held.queued_at, why=why)
        elif self.need_anew(held, held.queued_at, entry.at):
            self.ask_otherwise(entry, held, reasons.needs_of_rule(held.rule, held.needs))
        elif another:
            self.stand(held)
            if self.roster.best(held.key) is not None:
                self.roster.gained = True

    def need_anew(self, held: Held, since: datetime, at: datetime) -> bool:
        """What it needs of whoever gets it, as it has waited since then; tells whether that is something else than before."""
        before = held.needs
        held.needs = skills.needed(self.policy.ladder(held.rule), (at - since).total_seconds())
        return held.needs != before

    def ask_otherwise(self, entry: Entry, held: Held, why: Reason) -> None:
        """It waits on where it is, and needs something else of whoever gets it."""
        assert held.queued_at is not None
        with_team_since = held.held_since
        self.wait(entry, held, since=held.queued_at, why=why)
        if held.state == "queued":
            held.held_since = with_team_since

    def terms(self, held: Held) -> Terms:
        """On which terms it is given."""
        return self.roster.terms(held.key)

    def drain(self, entry: Entry) -> set[GroupKey]:
        """Give waiting conversations to whoever is free, until nobody is or nothing waits.

        Answers the keys whose queues must be extended first (see `extend`), empty when all is done.
        """
        roster = self.roster
        if not roster.gained:
            return set()
        if not roster.anyone_free(self._queues):
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
                        if key.passed:
                            roster.forget(key)
                    else:
                        short.add(key)
                elif first is None or self.place(head) < self.place(first):
                    first = head
            if short:
                return short
            if first is None:
                roster.gained = False
                return set()
            self.give(entry, first)

    def note_stays(self, at: datetime) -> None:
        """After an input that was written down at this moment, and its drain: note what it ended, and what began then."""
        for id_ in sorted(self._moved):
            held = self.held[id_]
            if held.since is not None and held.spot == held.stayed:
                continue
            # Rows of slower transactions turn up later: no stay ends before it began.
            moment = at if held.since is None else max(at, held.since)
            if held.stayed is not None and held.since is not None and moment > held.since:
                self.stays.append(Stay(held.id, held.stayed, held.since, moment))
            held.stayed, held.since = held.spot, moment
        self._moved.clear()
        self.noted_at.update(dict.fromkeys(self._noted, at))
        self._noted.clear()

    def seen(self, key: GroupKey) -> Place | None:
        """Up to where this queue has been loaded."""
        return self._queues[key].seen

    def extend(
        self, key: GroupKey, more: Collection[Held], *, complete: bool, had: Mapping[str, Had] | None = None
    ) -> None:
        """Add the conversations that wait next in a queue, in order, as stored; `complete`: there are no more.

        `had`: as in `__init__`, of their contacts.
        """
        for contact_id, last in (had or {}).items():
            if contact_id not in self._had or self._had[contact_id][:2] < last[:2]:
                self._had[contact_id] = last
        queue = self._queues[key]
        queue.complete = complete
        for one in more:
            queue.seen = self.place(one)
            # What the journal has changed already is nearer the truth than what is stored.
            known = self.held.setdefault(one.id, one)
            if known.state == "queued" and known.key == key:
                heapq.heappush(queue.heap, self.place(known))

    # How conversations move: what inputs do is made of these.

    def route(self, entry: Entry, held: Held, *, since: datetime, after: Reason | None = None) -> None:
        """A conversation without an agent: to the best one, else it waits, else (its team decides) it lies there.

        `after` is what somebody did that led here.
        """
        self.need_anew(held, since, entry.at)
        if not self.hands_out(held.team_id):
            why = reasons.team_by_hand(self.team_name(held.team_id) or "")
            self.lay_down(entry, held, reasons.joined(after, why))
        elif self.roster.best(held.key) is None or (held.key in self._queues and self.roster.gained):
            # Whoever waits longer goes first: what is queued already is served by the next drain, this one with it.
            why = reasons.nobody(self.roster.group(held.key), held.needs, declined=bool(held.declined))
            self.wait(entry, held, since=since, why=reasons.joined(after, why))
        else:
            held.queued_at = since
            self.give(entry, held, after=after)

    def give(self, entry: Entry, held: Held, *, after: Reason | None = None) -> None:
        """To the best agent, who must exist."""
        roster = self.roster
        first = roster.first(held.key, 1 + RUNNERS_UP)
        group = roster.group(held.key)
        had = self._last(held, entry.at)
        agent = roster.agents[had.agent_id] if had is not None else first[0]
        if had is not None:
            why = reasons.last_agent(agent, None if had.still else entry.at - had.at)
        else:
            why = reasons.chosen(self.policy, agent, group, entry.at)
        runners_up = [one.id for one in first if one is not agent][:RUNNERS_UP]
        excluded, since, needs = reasons.excluded(group), held.queued_at, held.needs
        self.turn += 1
        agent.turn = self.turn
        policy = self.policy_for(held)
        asked = policy.hand_over == "offer"
        if asked:
            self.offer(held, agent, entry, policy.offer_seconds)
        else:
            self.hold(held, agent, entry)
        self.decide(
            entry,
            held,
            "offered" if asked else "assigned",
            reasons.joined(after, why),
            since=None if asked else since,
            candidates=len(group.members),
            excluded=excluded,
            runners_up=tuple(runners_up),
            needs=needs,
        )

    def _last(self, held: Held, at: datetime) -> Had | None:
        """Who had the last conversation of its contact, where they go first and can have this one, too."""
        had = self._had.get(held.contact_id) if held.contact_id is not None else None
        days = self.policy_for(held).last_agent_days if had is not None else 0
        if had is None or not days or not (had.still or at - had.at <= timedelta(days=days)):
            return None
        agent = self.roster.agents.get(had.agent_id)
        able = agent is not None and agent.reaches(held.key) and agent.standing(self.terms(held)) in FREE
        return had if able else None

    def of_contact(self, held: Held, contact_id: str | None) -> None:
        """It is told whose it is; what was told first stays, so that who had it is theirs for good."""
        held.contact_id = held.contact_id or contact_id

    def _had_by(self, held: Held, agent_id: str, at: datetime) -> None:
        if held.contact_id is None:
            return
        # Rows of slower transactions turn up later: what is known of one conversation never goes back, so that the
        # greatest of all is known without looking at the others.
        held.had_by, held.had_at = agent_id, at if held.had_at is None else max(at, held.had_at)
        known, had = self._had.get(held.contact_id), Had(held.had_at, held.id, agent_id, held.state == "assigned")
        if known is None or known.conversation_id == held.id or known[:2] < had[:2]:
            self._had[held.contact_id] = had

    def wait(self, entry: Entry, held: Held, *, since: datetime, why: Reason) -> None:
        """Into the queue of its key; or, where the team hands out by hand, aside."""
        if not self.hands_out(held.team_id):
            self.lay_down(entry, held, why)
            return
        held.state, held.queued_at, held.held_since = "queued", since, entry.at
        self.need_anew(held, since, entry.at)
        self.stand(held)
        group = self.roster.group(held.key)
        if self.roster.best(held.key) is not None:
            self.roster.gained = True
        self.decide(entry, held, "queued", why, candidates=len(group.members), excluded=reasons.excluded(group))

    def stand(self, held: Held) -> None:
        """At its place in the queue of its key; where it stood before counts no more."""
        queue = self._queues.get(held.key)
        if queue is None:
            queue = self._queues[held.key] = _Queue(complete=True)
        heapq.heappush(queue.heap, self.place(held))

    def place(self, held: Held) -> Place:
        """Where it stands in its queue."""
        return held.place(self.policy.priority_worth_seconds)

    def stand_anew(self) -> None:
        """All that waits, which must be in memory, at its place under a policy with another order."""
        for queue in self._queues.values():
            queue.heap, queue.complete = [], True
        for held in self.held.values():
            if held.state == "queued":
                self.stand(held)

    def lay_down(self, entry: Entry, held: Held, why: Reason) -> None:
        held.state, held.queued_at, held.held_since, held.needs = "unassigned", None, None, ()
        self.decide(entry, held, "unassigned", why)

    def offer(self, held: Held, agent: Agent, entry: Entry, seconds: int) -> None:
        """It is the agent's to take for so long, and takes of their capacity as if it were theirs."""
        held.state, held.offered_to, held.offered_at = "offered", agent.id, entry.at
        held.offered_until = entry.at + timedelta(seconds=seconds)
        held.held_since = held.held_since or entry.at
        held.weight = self.policy.weight(held.channel)
        agent.offered += 1
        agent.extra += held.weight - UNIT
        self._in_pace(agent, entry)
        self.touch(agent)

    def end_offer(self, held: Held, outcome: Outcome, why: DeclineReason | None = None) -> Agent:
        """Whom it was offered to need not answer any more; the caller decides what becomes of it. Answers who that was."""
        assert held.offered_to is not None
        assert held.offered_at is not None
        agent = self.roster.agent(held.offered_to)
        agent.offered -= 1
        agent.extra -= held.weight - UNIT
        held.ended = Ended(agent.id, held.offered_at, outcome, why)
        held.state, held.offered_to, held.offered_at, held.offered_until = "unassigned", None, None, None
        self.touch(agent)
        return agent

    def go_on(self, entry: Entry, held: Held, why: Reason, *, without: Agent | None = None) -> None:
        """What was offered to somebody goes to the next one, or waits on at its place. `why`: how the offer ended.

        `without`: it goes to somebody else, where anybody is free; where nobody is, it waits for all of them.
        """
        assert held.queued_at is not None
        with_team_since, passed = held.held_since, held.passed
        held.passed = tuple(sorted({*passed, without.id})) if without is not None else passed
        if without is not None and self.hands_out(held.team_id) and self.roster.best(held.key) is not None:
            # Who is free is so because nothing that they could take waits: nothing is overtaken.
            self.give(entry, held, after=why)
            held.passed = passed
        else:
            held.passed = passed
            self.route(entry, held, since=held.queued_at, after=why)
        if held.state in ("queued", "offered") and with_team_since is not None:
            held.held_since = with_team_since

    def hold(self, held: Held, agent: Agent, entry: Entry) -> None:
        held.state, held.assignee_id, held.queued_at, held.by_hand = "assigned", agent.id, None, False
        held.kept_for, held.held_since, held.needs, held.declined = None, entry.at, (), ()
        held.notices, held.noticed_at = 0, None
        held.weight = self.policy.weight(held.channel)
        agent.load += 1
        agent.extra += held.weight - UNIT
        agent.last_assigned_at = entry.at
        given = entry.given
        by_hand = isinstance(given, Assign) and given.conversation_id == held.id
        # What was accepted was counted when it was offered.
        if not by_hand and not held.accepted:
            self._in_pace(agent, entry)
        self._had_by(held, agent.id, entry.at)
        self.touch(agent)

    def _in_pace(self, agent: Agent, entry: Entry) -> None:
        if self.policy.pace is not None:
            agent.given = self.policy.pace.kept((*agent.given, entry.at), entry.at)

    def release(self, held: Held, entry: Entry) -> None:
        """Take it from whoever holds it, or is offered it; the caller sets the new state."""
        if held.state == "offered":
            self.end_offer(held, "withdrawn")
        before, held.state = held.state, "unassigned"
        if before == "assigned" and held.assignee_id is not None:
            agent = self.roster.agent(held.assignee_id)
            agent.load -= 1
            agent.extra -= held.weight - UNIT
            agent.released_at = entry.at
            self._had_by(held, agent.id, entry.at)
            self.touch(agent)
        held.assignee_id = held.held_since = None

    def weigh(self, held: Held, weight: int) -> None:
        """It takes so much of its holder from now on, in hundredths of a unit."""
        if held.state == "assigned" and held.assignee_id is not None and held.weight != weight:
            agent = self.roster.agent(held.assignee_id)
            agent.extra += weight - held.weight
            held.weight = weight
            self.changed_held.add(held.id)
            self.touch(agent)

    def changed(self, held: Held) -> None:
        self.changed_held.add(held.id)
        self._moved.add(held.id)

    def touch(self, agent: Agent) -> None:
        self.roster.loaded(agent)
        self.note(agent)

    def note(self, agent: Agent) -> None:
        self.changed_agents.add(agent.id)
        key = agent.id, len(self.decisions)
        self.agents_then[key] = copy(agent)
        self._noted.add(key)

    def _head(self, key: GroupKey, queue: _Queue) -> Held | None:
        """The first that waits in a queue, None when it is not loaded (or, if complete, when there is none)."""
        heap = queue.heap
        while heap:
            held = self.held.get(heap[0][2])
            if held is not None and held.state == "queued" and held.key == key and self.place(held) == heap[0]:
                # One queued just now may stand behind stored ones that were not loaded yet.
                return held if queue.complete or (queue.seen is not None and heap[0] <= queue.seen) else None
            heapq.heappop(heap)
        return None

    def where(self, wanted: Callable[[Held], bool]) -> list[Held]:
        return sorted((one for one in self.held.values() if wanted(one)), key=_age)

    def team_stands(self, team_id: str | None) -> bool:
        return team_id is not None and team_id in self.teams and not self.teams[team_id].deleted

    def hands_out(self, team_id: str | None) -> bool:
        team = self.teams.get(team_id) if team_id else None
        return team is None or team.auto_assign

    def team_name(self, team_id: str | None) -> str | None:
        team = self.teams.get(team_id) if team_id else None
        return team.name if team else None

    def decide(
        self,
        entry: Entry,
        held: Held,
        kind: Literal["assigned", "queued", "offered", "unassigned"],
        why: Reason,
        *,
        since: datetime | None = None,
        candidates: int = 0,
        excluded: Mapping[str, int] | None = None,
        runners_up: tuple[str, ...] = (),
        needs: Needs | None = None,
    ) -> None:
        """Note what the conversation has become. `since`: when its wait, which ends here, began; `needs`: what was needed."""
        given = entry.given
        hand = given if isinstance(given, Assign) and given.conversation_id == held.id else None
        held.version += 1
        held.reason = why
        self.changed(held)
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
                actor=hand.actor if hand else f"agent:{held.assignee_id}" if held.accepted else "system",
                reason=why,
                queued_at=held.queued_at,
                waited_seconds=None if since is None else max((entry.at - since).total_seconds(), 0.0),
                policy_version=self.policy.version,
                rank=held.rank,
                passed=held.key.passed,
                rule=held.rule,
                needs=held.needs if needs is None else needs,
                candidates=candidates,
                excluded=excluded or {},
                runners_up=runners_up,
                declined=held.declined,
                offered_to=held.offered_to,
                offered_until=held.offered_until,
                ended=held.ended,
            )
        )
        held.ended = None
        held.shown_assignee_id, held.shown_team_id = held.assignee_id, held.team_id


def _age(held: Held) -> tuple[int, datetime, str]:
    return -held.rank, held.opened_at, held.id
