"""The judge of who got which conversation. It imports nothing of Relevo and believes only what was published.

It reads the events of presence, of conversations, of assignment and of people, as one JSON object a line:

    {"stream": "EVT_ASSIGNMENT", "seq": 7, "at": "2026-11-22T10:00:00.123456Z", "type": "conversation_assigned",
     "time": "2026-11-22T10:00:00.120000Z", "subject": "evt.assignment.0.<account>.<id>.conversation_assigned", "data": {...}}

`at` is when the broker stored it, `time` when its author says that it happened. A file of such lines is judged by
`python judge.py events.jsonl [--capacity 10] [--weight email=0.5] [--lighter 600=0.5]
[--priority-worth 600]`; `read` takes them from a broker.
These things are judged:

- over capacity: nobody is given a conversation by the machine where it does not fit into their units of capacity as a
  whole, beside what they hold or are offered: each takes one, or what is said of its channel, or the given share of that once its
  customer has been waited for so many seconds;
- two holders: a conversation is never given, or offered, to somebody before it was taken from whoever has it or is offered it;
- idle: nobody who could take a waiting conversation waits beside it for longer than a second;
- out of order: nothing is given away while something that goes before it, and takes no more, waits: of higher priority,
  or longer; where the policy weighs one against the other, what has waited for longer by that;
- unskilled: nothing is given to who lacks what it needed then, where it is known what agents can;
- asked again: nothing is offered, or given by turn, to who declined it, as long as it waits with the same team;
- offers: none stands for longer than it says, nor times out before; nobody gets what was offered to somebody else as accepted;
- rings: what waits needs less once it has waited for so long, and not before;
- left behind: nobody holds what they had when they went offline (away) for longer than the policy lets them, and it is taken
  from nobody before that.

What an author says of the time of a decision is when it learnt of what led to it, which lies before the decision; when
it was published lies after. So two things are in order for sure only where the one was published before the other's
author had learnt of anything; nothing else is held against the service. What it had no time to do counts as late when a
whole second passed between two things that both were published.
"""

import argparse
import json
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nats.aio.client import Client

RANK = {"urgent": 3, "high": 2, "medium": 1, None: 1, "low": 0}
IDLE_SECONDS = 1.0
SHOWN = 5
STREAMS = ("EVT_IDENTITY", "EVT_PRESENCE", "EVT_CONVERSATION", "EVT_ASSIGNMENT")
GIVEN_BY_TURN = {"round_robin", "least_loaded", "longest_idle", "most_skilled", "last_agent"}
"""Reasons of what went in its turn, to whoever was next: the owner's, and what is opened again, go before the queue."""

GONE = {"holder_offline": "offline", "holder_away": "away"}
"""Reasons of what was taken back from somebody who was gone."""

UNIT = 100
"""Weights are whole hundredths of a unit."""

Needs = tuple[tuple[str, int], ...]
"""The least levels of whoever gets it, by skill."""

Key = tuple[str, str | None, str | None, Needs, frozenset[str]]
"""Inbox, team, channel, what is needed, and who declined it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was published."""

    stream: str
    seq: int
    at: datetime
    type: str
    time: datetime
    subject: str
    data: Mapping[str, Any]

    @property
    def subjects(self) -> list[str]:
        """The tokens of the subject: the account is one of them."""
        return self.subject.split(".")

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Event":
        moments = {name: datetime.fromisoformat(line[name]) for name in ("at", "time")}
        return cls(**{**line, **moments})


@dataclass
class Waiting:
    """One time that a conversation waited. `told`: when that was published; `left`: when what ended it happened."""

    conversation: str
    key: Key
    rank: int
    since: datetime
    told: datetime
    left: datetime | None = None
    worth: float | None = None

    @property
    def place(self) -> tuple[int, datetime]:
        if self.worth is not None:
            return 0, self.since - timedelta(seconds=self.worth * self.rank)
        return -self.rank, self.since


@dataclass
class Given:
    """A conversation went to an agent by the machine, because it was their turn."""

    agent: str
    waited: Waiting
    time: datetime
    told: datetime


@dataclass
class Holding:
    """One time that an agent had a conversation. `end`: when what ended it happened; None: it never did."""

    conversation: str
    automatic: bool
    weight: int
    time: datetime
    told: datetime
    end: datetime | None = None
    came_back: bool = False
    """It was theirs, and was put off; or it was offered to them."""

    def at(self, moment: datetime) -> bool:
        """Whether it was so at a moment, for sure."""
        return self.told <= moment and (self.end is None or self.end > moment)


@dataclass
class Agent:
    """What an agent is, as far as was published."""

    id: str
    reach: tuple[frozenset[str] | None, frozenset[str]] | None = None
    """Inboxes (None: every one) and teams; None: never told, they reach everything."""
    active: bool = True
    skills: Mapping[str, int] | None = None
    """Levels by skill; None: never told, they can everything."""
    available: bool = False
    holds: dict[str, Holding] = field(default_factory=dict)
    held: list[Holding] = field(default_factory=list)
    gone: tuple[str, datetime] | None = None
    """As what, and since when, they are not there."""
    came_back: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """Since when they had been gone as what, the last time, and when it was told that they are not any more."""

    def can(self, needs: Needs) -> bool:
        return self.skills is None or all(self.skills.get(name, 0) >= level for name, level in needs)

    def reaches(self, key: Key) -> bool:
        if self.id in key[4] or not self.can(key[3]):
            return False
        if self.reach is None:
            return True
        inboxes, teams = self.reach
        return (inboxes is None or key[0] in inboxes) and (key[1] is None or key[1] in teams)


@dataclass(frozen=True)
class Brought:
    """A conversation that came to an agent since their status changed at `since`, by presence's own time."""

    agent_id: str
    since: datetime
    conversation_id: str
    version: int
    """Of the decision."""
    told: datetime
    """When the broker stored that they have it, or are offered it."""


@dataclass
class Verdict:
    """`faults` by kind, each with examples; empty: all four hold. `figures`: how much was judged."""

    figures: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def blame(self, kind: str, what: str) -> None:
        self.figures[kind] = self.figures.get(kind, 0) + 1
        if len(examples := self.faults.setdefault(kind, [])) < SHOWN:
            examples.append(what)

    def text(self) -> str:
        lines = [f"  {name:<40} {value}" for name, value in self.figures.items()]
        return "\n".join(lines + [f"  ✗ {kind}: {one}" for kind, found in self.faults.items() for one in found])


class Judge:
    """Takes the events in the order of the broker's clock."""

    def __init__(
        self,
        capacity: int,
        own: Mapping[str, int] | None = None,
        *,
        idle_seconds: float = IDLE_SECONDS,
        taken_back: Mapping[str, float] | None = None,
        weights: Mapping[str, int] | None = None,
        lighter: tuple[float, int] | None = None,
        priority_worth: float | None = None,
        pace: tuple[int, float] | None = None,
        skills: Mapping[str, Mapping[str, int]] | None = None,
        ladders: Sequence[Sequence[tuple[float, Mapping[str, int]]]] = (),
    ) -> None:
        """`skills`: what agents can, all of them; None: nobody says. `ladders`: what is needed from how many seconds of waiting on.

        `pace`: how many are given to an agent within how many seconds at most.

        `priority_worth`: how many seconds of waiting each step of priority is worth; None: the higher always goes first.

        `capacity`: how many units an agent may carry; `own`: of those who may another number.

        `weights`: hundredths of a unit that a conversation of a channel takes, where that is not one; `lighter`: after
        how many seconds of waiting for its customer it takes only so many hundredths of that.

        `taken_back`: after how many seconds offline (away) conversations are taken from who has them.
        """
        self.capacity = capacity
        self.weights = dict(weights or {})
        self.lighter = lighter
        self.priority_worth = priority_worth
        self.pace = pace
        self.skills = skills
        self.ladders = [[(after, _needs(needs)) for after, needs in one] for one in ladders]
        self.slow: set[str] = set()
        self.channels: dict[str, str | None] = {}
        self.asked: dict[str, list[tuple[datetime, datetime, bool]]] = {}
        """When it happened, and was told, that a conversation's customer waits for an answer, or does not any more."""
        self.taken_back = dict(taken_back or {})
        self.left: set[str] = set()
        self.back = 0
        self.answered: Counter[str] = Counter()
        self.idle_seconds = idle_seconds
        self.own = dict(own or {})
        self.verdict = Verdict()
        self.agents: dict[str, Agent] = {}
        self.ranks: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.holders: dict[str, str | None] = {}
        self.offers: dict[str, tuple[str, datetime]] = {}
        """To whom conversations are offered, and until when."""
        self.declined: dict[str, tuple[str | None, set[str]]] = {}
        """Who declined one since it has waited with its team."""
        self.stood: set[str] = set()
        self.closed: set[str] = set()
        self.waiting: dict[str, Waiting] = {}
        self.waits: list[Waiting] = []
        self.given: list[Given] = []
        self.became: dict[str, datetime] = {}
        """Since when agents can take one of those that wait, by the event's own time: when presence was asked to change it."""
        self.brought: list[Brought] = []
        """What changes in presence brought, of each the first."""
        self.beside: dict[tuple[str, Key], datetime] = {}
        """Since when an agent who could take one is beside a queue that is not empty."""
        self.told: set[tuple[str, Key]] = set()
        self.free: set[str] = set()
        self.queues: Counter[Key] = Counter()
        self._sorted: list[Waiting] = []
        self._places: list[tuple[int, datetime]] = []

    def take(self, event: Event) -> None:
        self._told_of_customer(event)
        match event.type:
            case "agent_changed":
                self._person(event)
            case "status_changed":
                self._status(event)
            case "conversation_opened" | "conversation_reopened":
                one = event.data["conversation"]
                self.left.discard(one["id"])
                self.ranks[one["id"]] = RANK[one.get("priority")]
                self.closed.discard(one["id"])
                self._hold(one["id"], self.holders.get(one["id"]), event)
            case "conversation_resolved":
                self._resolved(event)
            case "conversation_queued" | "conversation_assigned" | "conversation_unassigned" | "conversation_offered":
                self._decided(event)
            case _:
                return
        self.look(event.at)
        for waits in self.waiting.values() if self.ladders else ():
            self._widened_in_time(waits, event.at)

    def judged(self) -> Verdict:
        """The verdict, once all is taken."""
        self._sorted = sorted(self.waits, key=lambda one: one.place)
        self._places = [one.place for one in self._sorted]
        for found in self.given:
            self._in_order(found)
        for agent in self.agents.values():
            self._within(agent)
            self._in_pace(agent)
        self.verdict.figures = {
            "agents": len(self.agents),
            "conversations": len(self.versions),
            "times that one waited": len(self.waits),
            "given by turn out of the queue": len(self.given),
            "taken back from who had gone": self.back,
            **{f"offers {outcome}": number for outcome, number in sorted(self.answered.items())},
            **self.verdict.figures,
        }
        return self.verdict

    def _agent(self, agent_id: str) -> Agent:
        if agent_id not in self.agents:
            can = None if self.skills is None else self.skills.get(agent_id, {})
            self.agents[agent_id] = Agent(agent_id, skills=can)
        return self.agents[agent_id]

    def _limit(self, agent_id: str) -> int:
        return self.own.get(agent_id, self.capacity)

    def _person(self, event: Event) -> None:
        told = event.data["agent"]
        agent = self._agent(told["id"])
        inboxes = told.get("inbox_ids")
        agent.reach = (None if inboxes is None else frozenset(inboxes), frozenset(told.get("team_ids") or ()))
        agent.active = told.get("active", True) and not event.data.get("deleted", False)
        self._weigh(agent)

    def _status(self, event: Event) -> None:
        status = event.data["status"]
        agent = self._agent(status["agent_id"])
        agent.available = status["state"] == "available" and status.get("in_shift") is not False
        state = status["state"]
        if agent.gone is None or agent.gone[0] != state:
            if agent.gone is not None:
                agent.came_back[agent.gone[0]] = agent.gone[1], event.at
            agent.gone = (state, datetime.fromisoformat(status["since"])) if state in self.taken_back else None
        self._weigh(agent)
        self.became.pop(agent.id, None)
        if agent.id in self.free and any(
            number and agent.reaches(key) and self._room(agent, event.at) >= self._weight(key[2])
            for key, number in self.queues.items()
        ):
            self.became[agent.id] = event.time

    def _resolved(self, event: Event) -> None:
        one = event.data["conversation"]["id"]
        self.closed.add(one)
        self._drop(one, event)
        self._leaves(one, event)

    def _decided(self, event: Event) -> None:
        data = event.data
        one, version, holder = data["conversation_id"], data["version"], data.get("assignee_id")
        self.channels[one] = data.get("channel")
        before = self.versions.get(one, 0)
        if version != before + 1:
            self.verdict.blame("two holders", f"{one}: version {version} follows {before}, to {holder}")
        elif data.get("from_assignee_id") != self.holders.get(one):
            known = self.holders.get(one)
            self.verdict.blame("two holders", f"{one}: given to {holder} though {known} has it")
        self.versions[one] = max(version, before)
        self._not_too_early(event)
        waited = self._leaves(one, event)
        self._ended(one, event)
        given = event.type in ("conversation_assigned", "conversation_offered") and data.get("mode") == "automatic"
        by_turn = given and data["reason"]["code"] in GIVEN_BY_TURN
        whom = data["agent_id"] if event.type == "conversation_offered" else holder
        if given and (since := self.became.pop(whom, None)) is not None and waited is not None:
            self.brought.append(Brought(whom, since, one, data["version"], event.at))
        needs = _needs(data.get("needs") or {})
        if by_turn and not self._agent(whom).can(needs):
            self.verdict.blame("unskilled", f"{one}: to {whom}, who lacks some of {needs}")
        if by_turn and whom in self._who_declined(one, data):
            self.verdict.blame("asked again", f"{one}: {whom}, who declined it")
        if by_turn and waited is not None:
            self.given.append(Given(whom, waited, event.time, event.at))
        self._hold(one, holder, event)
        if event.type == "conversation_offered":
            self.offers[one] = whom, datetime.fromisoformat(data["until"])
            self._claim(one, whom, event)
        elif event.type != "conversation_queued":
            self.declined.pop(one, None)
        if event.type == "conversation_queued":
            declined = frozenset(self._who_declined(one, data))
            key = data["inbox_id"], data.get("team_id"), data.get("channel"), needs, declined
            since = datetime.fromisoformat(data["queued_at"])
            self._not_widened_early(one, waited, needs, (event.at - since).total_seconds())
            self.waiting[one] = Waiting(one, key, self._rank(one, data), since, event.at, worth=self.priority_worth)
            self.queues[key] += 1
            self.waits.append(self.waiting[one])

    def _ended(self, one: str, event: Event) -> None:
        """The offer that ends with an event, and whether it should."""
        said = event.data.get("ended_offer")
        if one not in self.offers:
            if said is not None:
                self.verdict.blame("offers", f"{one}: one to {said['agent_id']} ended that was never made")
            return
        self._drop(one, event)
        whom, until = self.offers.pop(one)
        if said is None or said["agent_id"] != whom:
            self.verdict.blame("two holders", f"{one}: {event.type} though it is offered to {whom}")
            return
        if said["outcome"] == "timed_out" and event.time < until:
            self.verdict.blame("offers", f"{one}: timed out for {whom} before {until}")
        if said["outcome"] == "accepted" and event.data.get("assignee_id") != whom:
            self.verdict.blame("offers", f"{one}: accepted by {whom}, given to {event.data.get('assignee_id')}")
        if said["outcome"] == "declined":
            self._who_declined(one, event.data).add(whom)
        self.answered[said["outcome"]] += 1

    def _who_declined(self, one: str, data: Mapping[str, Any]) -> set[str]:
        team = data.get("team_id")
        if one not in self.declined or self.declined[one][0] != team:
            self.declined[one] = team, set()
        return self.declined[one][1]

    def _stands(self, at: datetime) -> None:
        for one, (whom, until) in self.offers.items():
            if (at - until).total_seconds() > self.idle_seconds and one not in self.stood:
                self.stood.add(one)
                self.verdict.blame("offers", f"{one}: stands still with {whom}, until {until}")

    def _rank(self, one: str, data: Mapping[str, Any]) -> int:
        """Its place's, as published: what was taken back may have a higher one than the conversation's own."""
        if data["reason"]["code"] in GONE and data.get("priority") is not None:
            self.ranks[one] = RANK[data["priority"]]
        return self.ranks.get(one, 1)

    def _hold(self, one: str, holder: str | None, event: Event) -> None:
        self._drop(one, event)
        self.holders[one] = holder
        if holder is not None and one not in self.closed:
            self._claim(one, holder, event)

    def _claim(self, one: str, whom: str, event: Event) -> None:
        """It takes of their capacity from here on."""
        agent = self._agent(whom)
        automatic = event.data.get("mode") == "automatic"
        weight, back = self._weight(self.channels.get(one)), event.data["reason"]["code"] in ("woken", "accepted")
        agent.holds[one] = Holding(one, automatic, weight, event.time, event.at, came_back=back)
        agent.held.append(agent.holds[one])
        self._weigh(agent)

    def _drop(self, one: str, event: Event) -> None:
        holder = self.offers[one][0] if one in self.offers else self.holders.get(one)
        agent = self.agents.get(holder) if holder is not None else None
        if agent is not None and (holding := agent.holds.pop(one, None)) is not None:
            holding.end = event.time
            self._weigh(agent)

    def _leaves(self, one: str, event: Event) -> Waiting | None:
        waited = self.waiting.pop(one, None)
        if waited is not None:
            waited.left = event.time
            self.queues[waited.key] -= 1
        return waited

    def look(self, at: datetime) -> None:
        """Who is beside a queue and could take from it; whoever has been for too long is told, once each time."""
        keys = [key for key, number in self.queues.items() if number]
        beside = {
            (one, key)
            for one in (self.free if keys else ())
            if not self._paced(self.agents[one], at)
            for room in [self._room(self.agents[one], at)]
            for key in keys
            if self._weight(key[2]) <= room and self.agents[one].reaches(key)
        }
        for pair in list(self.beside):
            if (at - self.beside[pair]).total_seconds() > self.idle_seconds and pair not in self.told:
                self.told.add(pair)
                self.verdict.blame("idle", f"{pair[0]} beside a queue of {pair[1][0]} since {self.beside[pair]}")
            if pair not in beside:
                del self.beside[pair]
                self.told.discard(pair)
        for pair in beside:
            self.beside.setdefault(pair, at)
        self._stands(at)
        for agent in self.agents.values() if self.taken_back else ():
            self._left_behind(agent, at)

    def _not_widened_early(self, one: str, before: Waiting | None, needs: Needs, seconds: float) -> None:
        if before is None or before.key[3] == needs:
            return
        for ladder in self.ladders:
            due = next((after for after, step in ladder if step == needs), None)
            if any(step == before.key[3] for _, step in ladder) and (due is None or due > seconds):
                self.verdict.blame("rings", f"{one}: needed {before.key[3]}, and {needs} after {seconds} s")

    def _widened_in_time(self, waits: Waiting, at: datetime) -> None:
        needs, waited = waits.key[3], (at - waits.since).total_seconds() - self.idle_seconds
        for ladder in self.ladders if waits.conversation not in self.slow else ():
            step = next((n for n, (_, one) in enumerate(ladder) if one == needs and needs), None)
            if step is not None and step + 1 < len(ladder) and waited > ladder[step + 1][0]:
                self.slow.add(waits.conversation)
                self.verdict.blame("rings", f"{waits.conversation}: still needs {needs} after {waited} s")

    def _not_too_early(self, event: Event) -> None:
        state = GONE.get(event.data["reason"]["code"])
        if state is None:
            return
        self.back += 1
        agent = self._agent(event.data["from_assignee_id"])
        since = agent.gone[1] if agent.gone is not None and agent.gone[0] == state else None
        if since is None and state in agent.came_back:
            before, told = agent.came_back[state]
            # What was told so lately need not have been learnt: a timer waits for nothing.
            since = before if (event.time - told).total_seconds() < self.idle_seconds else None
        if since is None or (event.at - since).total_seconds() < self.taken_back.get(state, float("inf")):
            self.verdict.blame("left behind", f"{event.data['conversation_id']} taken from {agent.id}, gone {since}")

    def _left_behind(self, agent: Agent, at: datetime) -> None:
        if agent.gone is None:
            return
        state, since = agent.gone
        for one in agent.holds.values():
            held = (at - max(since, one.time)).total_seconds()
            if held > self.taken_back[state] + self.idle_seconds and one.conversation not in self.left:
                self.left.add(one.conversation)
                self.verdict.blame("left behind", f"{one.conversation} with {agent.id}, {state} since {since}")

    def _weigh(self, agent: Agent) -> None:
        if agent.active and agent.available:
            self.free.add(agent.id)
        else:
            self.free.discard(agent.id)

    def _weight(self, channel: str | None) -> int:
        return self.weights.get(channel or "", UNIT)

    def _room(self, agent: Agent, at: datetime) -> int:
        """How much more the agent can carry at a moment, for sure, in hundredths of a unit."""
        return self._limit(agent.id) * UNIT - sum(self._most(one, at) for one in agent.holds.values())

    def _paced(self, agent: Agent, at: datetime) -> bool:
        """Whether the agent may have been given as many as their pace allows, a moment ago or still."""
        if self.pace is None:
            return False
        most, seconds = self.pace
        since = at - timedelta(seconds=seconds + self.idle_seconds)
        return sum(one.automatic and one.told > since for one in agent.held) >= most

    def _in_pace(self, agent: Agent) -> None:
        """Whether the machine gave them no more than their pace allows; what only comes back to them is theirs."""
        if self.pace is None:
            return
        most, seconds = self.pace
        given = sorted(one.time for one in agent.held if one.automatic and not one.came_back)
        for first, last in zip(given, given[most:], strict=False):
            if (last - first).total_seconds() < seconds:
                self.verdict.blame("too fast", f"{agent.id} got more than {most} within {seconds} s until {last}")

    def _told_of_customer(self, event: Event) -> None:
        said = event.data.get("conversation") if self.lighter is not None else None
        if said is not None and "waiting_since" in said:
            self.asked.setdefault(said["id"], []).append((event.time, event.at, said["waiting_since"] is not None))

    def _most(self, one: Holding, at: datetime) -> int:
        """What a conversation takes at a moment at most: it is lighter only where it must have become so."""
        if self.lighter is None:
            return one.weight
        after, share = self.lighter
        known = [told for _, told, _ in self.asked.get(one.conversation, ()) if told <= at]
        states = self.asked.get(one.conversation, [])[: len(known)]
        if not states or states[-1][2]:
            return one.weight
        waited = next((told for _, told, waits in self._since_answered(states)), at)
        late = (at - max(waited, one.told)).total_seconds() > after + self.idle_seconds
        return -(-one.weight * share // UNIT) if late and self._was_asked(states) else one.weight

    def _least(self, one: Holding, at: datetime) -> int:
        """What it takes at a moment at least: it is lighter where it may have been so a moment ago."""
        if self.lighter is None:
            return one.weight
        after, share = self.lighter
        light = -(-one.weight * share // UNIT)
        states = self.asked.get(one.conversation, [])
        for place, (time, _, waits) in enumerate(states):
            again = next((told for _, told, asks in states[place:] if asks), None)
            long = (at - max(time, one.time)).total_seconds() >= after
            if not waits and long and (again is None or (at - again).total_seconds() < self.idle_seconds):
                return light
        return one.weight

    @staticmethod
    def _since_answered(states: Sequence[tuple[datetime, datetime, bool]]) -> Sequence[tuple[datetime, datetime, bool]]:
        """The last states in which nobody waits, from the first of them on."""
        first = max((place + 1 for place, one in enumerate(states) if one[2]), default=0)
        return states[first:]

    @staticmethod
    def _was_asked(states: Sequence[tuple[datetime, datetime, bool]]) -> bool:
        """Whether somebody answered a customer: what nobody ever asked may count in full."""
        return any(waits for *_, waits in states)

    def _in_order(self, found: Given) -> None:
        """Whether nothing that goes before it waited, for sure, when this one was given."""
        agent, mine = self.agents[found.agent], found.waited
        for other in self._before(found):
            # Something lighter may fit where what waits for longer does not.
            fits = self._weight(other.key[2]) <= self._weight(mine.key[2])
            waits = other.told < found.time and (other.left is None or other.left > found.told)
            if fits and waits and agent.reaches(other.key):
                self.verdict.blame("out of order", f"{mine.conversation} to {agent.id} before {other.conversation}")
                return

    def _within(self, agent: Agent) -> None:
        """Whether the agent had no more than they may when the machine had given them one; people give what they like."""
        for mine in agent.held:
            if not mine.automatic:
                continue
            together = [
                one
                for one in agent.held
                if one.at(mine.told) and (one is mine or one.automatic or one.told < mine.time)
            ]
            taken = sum(one.weight if one is mine else self._least(one, mine.told) for one in together)
            if taken > self._limit(agent.id) * UNIT:
                held = f"held {len(together)} then, {taken / UNIT} units"
                self.verdict.blame("over capacity", f"{agent.id} got {mine.conversation} and {held}")

    def _before(self, found: Given) -> Iterator[Waiting]:
        yield from self._sorted[: bisect_left(self._places, found.waited.place)]


def judge(
    events: Iterable[Event],
    *,
    capacity: int,
    own: Mapping[str, int] | None = None,
    until: datetime | None = None,
    idle_seconds: float = IDLE_SECONDS,
    taken_back: Mapping[str, float] | None = None,
    weights: Mapping[str, int] | None = None,
    lighter: tuple[float, int] | None = None,
    priority_worth: float | None = None,
    pace: tuple[int, float] | None = None,
    skills: Mapping[str, Mapping[str, int]] | None = None,
    ladders: Sequence[Sequence[tuple[float, Mapping[str, int]]]] = (),
) -> tuple[Verdict, Judge]:
    """Judge events, in whatever order they come; `until`: nothing more was published until then."""
    one = Judge(
        capacity,
        own,
        idle_seconds=idle_seconds,
        taken_back=taken_back,
        weights=weights,
        lighter=lighter,
        priority_worth=priority_worth,
        pace=pace,
        skills=skills,
        ladders=ladders,
    )
    for event in sorted(events, key=lambda event: (event.at, event.seq)):
        one.take(event)
    if until is not None:
        one.look(until)
    return one.judged(), one


def _needs(levels: Mapping[str, int]) -> Needs:
    return tuple(sorted(levels.items()))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of them do not exceed; 0 of none."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


async def read(client: Client, account: str, streams: Iterable[str] = STREAMS) -> list[Event]:
    """Every event of an account that a broker holds."""
    return [event for stream in streams async for event in _stored(client, stream) if account in event.subjects]


async def _stored(client: Client, stream: str) -> AsyncIterator["Event"]:
    config = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True, "inactive_threshold": 60_000_000_000}
    asked = json.dumps({"stream_name": stream, "config": config}).encode()
    made = json.loads((await client.request(f"$JS.API.CONSUMER.CREATE.{stream}", asked, timeout=30)).data)
    if error := made.get("error"):
        raise RuntimeError(f"{stream}: {error}")
    left = made["num_pending"]
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    try:
        while left > 0:
            wanted = min(left, 500)
            more = json.dumps({"batch": wanted, "expires": 30_000_000_000}).encode()
            await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{made['name']}", more, reply=inbox)
            for _ in range(wanted):
                got = await replies.next_msg(timeout=60)
                if not got.reply:
                    raise RuntimeError(f"{stream}: {got.headers}")
                left -= 1
                if got.headers and "ce-type" in got.headers:
                    yield event_of(stream, got.subject, got.reply, got.headers, got.data)
    finally:
        await replies.unsubscribe()


def event_of(stream: str, subject: str, reply: str, headers: Mapping[str, str], body: bytes) -> Event:
    """A message as an event. Where the broker says how it is acknowledged, it says when it was stored, too."""
    *_, seq, _, nanoseconds, _ = reply.split(".")
    at = datetime.fromtimestamp(int(nanoseconds) // 1000 / 1e6, UTC)
    time = datetime.fromisoformat(headers["ce-time"])
    type_ = headers["ce-type"].split(".")[-2]
    return Event(stream, int(seq), at, type_, time, subject, json.loads(body))


def lines(events: Iterable[Event]) -> Iterator[str]:
    """Events as a file has them."""
    for event in events:
        moments = {"at": event.at.isoformat(), "time": event.time.isoformat()}
        rest = {name: getattr(event, name) for name in ("stream", "seq", "type", "subject", "data")}
        yield json.dumps(rest | moments)


def _hundredths(units: str) -> int:
    return round(float(units) * UNIT)


def main() -> int:
    """Judge a file; exits 1 when something is wrong."""
    parser = argparse.ArgumentParser(description="Judge who got which conversation, from published events alone.")
    parser.add_argument("events", type=Path)
    parser.add_argument("--capacity", type=int, default=10)
    parser.add_argument("--weight", action="append", default=[], metavar="CHANNEL=UNITS", help="as email=0.5")
    parser.add_argument("--lighter", metavar="SECONDS=SHARE", help="as 600=0.5")
    parser.add_argument("--pace", metavar="MOST=SECONDS", help="as 5=600")
    parser.add_argument("--priority-worth", type=float, metavar="SECONDS", help="of waiting, for each step of priority")
    parser.add_argument("--skills", type=Path, metavar="FILE", help="JSON: levels by skill, by agent")
    parser.add_argument(
        "--ladders", type=Path, metavar="FILE", help="JSON: of each rule [[0, needs], [seconds, needs], …]"
    )
    given = parser.parse_args()
    with given.events.open(encoding="utf-8") as file:
        events = [Event.of(json.loads(line)) for line in file]
    weights = {channel: _hundredths(units) for channel, _, units in (one.partition("=") for one in given.weight)}
    after, _, share = (given.lighter or "").partition("=")
    lighter = (float(after), _hundredths(share)) if after else None
    most, _, seconds = (given.pace or "").partition("=")
    verdict, _ = judge(
        events,
        capacity=given.capacity,
        weights=weights,
        lighter=lighter,
        priority_worth=given.priority_worth,
        pace=(int(most), float(seconds)) if most else None,
        skills=json.loads(given.skills.read_text()) if given.skills else None,
        ladders=json.loads(given.ladders.read_text()) if given.ladders else (),
    )
    sys.stdout.write(verdict.text() + "\n")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
