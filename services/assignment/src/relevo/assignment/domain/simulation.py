"""What if: a period of a pool's journal as it was, and as it would have been under a draft.

`recorded` decides on the journal again and compares with the decisions that were kept: the same journal gives the same
decisions, so every difference is a fault. `drafted` does it with another policy, capacities or people from a moment on.

Nobody knows what people would have done then. So each arrival has a *life*: how long its first holder (and whoever came
after) took until it was closed, and what people did by hand meanwhile. Whoever gets a conversation at the very moment
at which they really got it, deals with it as they really did; at another moment, with the same life from then on; where
somebody else gets it, its life is drawn from the recorded lives of that agent, or of everybody where the agent has few.
Likewise whoever is offered one at the very moment at which they really were answers as they really did; other answers, and how
long they take, are drawn; where nobody ever was offered anything, everybody accepts at once.
Draws depend on the seed and on the arrival alone, never on their order. Arrivals, statuses, people's rights and what rules
decide are taken as they were recorded.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Final, Literal, TypeGuard

from relevo.assignment.domain.course import Course, Measured, Tally, Turn
from relevo.assignment.domain.held import Decision, Held
from relevo.assignment.domain.inputs import (
    AgentDue,
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    ConversationDue,
    CustomerWaits,
    Entry,
    Input,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Reopened,
    SkillsSet,
    StatusGiven,
)
from relevo.assignment.domain.moments import dues
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.skills import Skills
from relevo.contracts.assignment import Outcome

ENOUGH: Final = 20
"""Lives of an agent from which one is drawn; of one with fewer, everybody's are."""

Version = tuple[str, int]
"""A conversation, and the number of the decision on it."""
Fate = Literal["as_recorded", "moved", "drawn"]
Act = Assign | CustomerWaits
"""What was done by hand; or that somebody answered, or the customer wrote again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision as the service kept it, as far as it must come out again."""

    journal_id: int
    kind: str
    mode: str
    assignee_id: str | None
    team_id: str | None
    reason: str
    offered_to: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How an offer ended, and how long after it was made; None: it stood still when the record ended."""

    after: timedelta
    outcome: Outcome | None


Offer = tuple[str, str, datetime]
"""A conversation, to whom it was offered, and when."""


@dataclass(frozen=True, slots=True)
class Life:
    """What was done with a conversation since somebody first held it: acts by hand, and when it was closed, if it was.

    `lasted` is how long it is known to have been open.
    """

    acts: tuple[tuple[timedelta, Act], ...]
    closes: timedelta | None
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that came out otherwise than it was kept; None: there is none on that side."""

    conversation_id: str
    version: int
    kept: Kept | None
    again: Kept | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The period as it was."""

    measured: Measured
    policy: Policy
    """In force when the period began."""
    names: Mapping[str, str]
    automatic: int
    """How many automatic decisions were made again."""
    differences: tuple[Difference, ...]
    refused: frozenset[int]
    """The places of the inputs that asked for what could not be."""
    turns: Mapping[int, Turn]
    lives: Mapping[int, Life]
    """By the place of the arrival."""
    answers: Mapping[Offer, Answer]


def recorded(
    entries: Iterable[Entry], kept: Mapping[Version, Kept], *, since: datetime, until: datetime, limit: float
) -> Recorded:
    """Decide on a whole journal again; measure and compare [since, until), for which `kept` has all decisions."""
    course, tally = Course(), Tally(since, until, limit)
    policy, measured, automatic = Policy(), None, 0
    began = False
    expected = dict(kept)
    differences: list[Difference] = []
    refused: set[int] = set()
    turns: dict[int, Turn] = {}
    acts: defaultdict[int, list[tuple[datetime, Act]]] = defaultdict(list)
    answers: dict[Offer, Answer] = {}
    end = until
    for place, entry in enumerate(entries):
        end = max(end, entry.at)
        if not began and entry.at >= since:
            began, policy = True, course.pool.policy
            tally.begin(course)
        if measured is None and entry.at >= until:
            measured = tally.end(course)
        made, refusal = course.take(place, entry)
        if refusal is not None:
            refused.add(place)
        given = entry.given
        if isinstance(given, Opened | Reopened | Assign | CustomerWaits):
            turn = course.turns.get(given.conversation_id)
            if turn is not None:
                turns[turn.place] = turn
                if turn.closed is None and refusal is None and _is_act(given):
                    acts[turn.place].append((entry.at, given))
        answers.update(_answers(made))
        if began and measured is None:
            tally.after(course, entry, made)
        if since <= entry.at < until:
            automatic += sum(one.mode == "automatic" for one in made)
            differences += _differences(expected, made)
    if not began:
        policy = course.pool.policy
        tally.begin(course)
    if measured is None:
        measured = tally.end(course)
    differences += [Difference(*version, one, None) for version, one in sorted(expected.items())]
    return Recorded(
        measured=measured,
        policy=policy,
        names={agent.id: agent.name for agent in course.roster.agents.values()},
        automatic=automatic,
        differences=tuple(differences),
        refused=frozenset(refused),
        turns=turns,
        lives={place: _life(turn, acts[place], end) for place, turn in turns.items() if turn.first is not None},
        answers=answers,
    )


def _answers(made: Iterable[Decision]) -> dict[Offer, Answer]:
    """What these decisions tell of offers: that they were made, and how they ended."""
    found = {}
    for one in made:
        if (ended := one.ended) is not None:
            offer = one.conversation_id, ended.agent_id, ended.offered_at
            # What was done by hand is an act, and done again as one.
            outcome: Outcome = ended.outcome if one.mode == "automatic" else "withdrawn"
            found[offer] = Answer(one.entry.at - ended.offered_at, outcome)
        if one.offered_to is not None:
            found[one.conversation_id, one.offered_to, one.entry.at] = Answer(timedelta(), None)
    return found


def _is_act(given: Input) -> TypeGuard[Act]:
    return isinstance(given, CustomerWaits) or (isinstance(given, Assign) and given.mode == "manual")


def _differences(expected: dict[Version, Kept], made: Iterable[Decision]) -> list[Difference]:
    found = []
    for one in made:
        again = Kept(one.entry.id, one.kind, one.mode, one.assignee_id, one.team_id, one.reason.code, one.offered_to)
        was = expected.pop((one.conversation_id, one.version), None)
        if was != again:
            found.append(Difference(one.conversation_id, one.version, was, again))
    return found


def _life(turn: Turn, acts: Iterable[tuple[datetime, Act]], end: datetime) -> Life:
    assert turn.first is not None
    start = turn.first.at
    after = tuple((at - start, act) for at, act in acts if at > start)
    return Life(after, None if turn.closed is None else turn.closed - start, (turn.closed or end) - start)


def drawn(lives: Sequence[Life], random: Random) -> Life:
    """One of some lives, which are not none.

    Of one that had not ended when the record did, only so much is known: it goes on as one of those that lasted longer
    (what it weighs goes to its right, as Kaplan and Meier estimate), or ends there and then where none did (Efron's
    end of that). Taken for endless, a few such lives would fill the agents' slots for the rest of the period.
    """
    life = random.choice(lives)
    if life.closes is not None:
        return life
    longer = [one.closes for one in lives if one.closes is not None and one.closes > life.lasted]
    return replace(life, closes=random.choice(longer) if longer else life.lasted)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is otherwise than it was: the policy, agents' own capacities and skills, who is not at work, and doubles of agents."""

    policy: Policy
    capacities: Mapping[str, int | None] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    doubled: tuple[str, ...] = ()
    skills: Mapping[str, Skills] = field(default_factory=dict)
    """All that these agents can."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """The period as it would have been, and of how many arrivals that somebody got what they became is known or drawn."""

    measured: Measured
    fates: Mapping[Fate, int]


def drafted(
    entries: Iterable[Entry],
    was: Recorded,
    draft: Draft,
    *,
    since: datetime,
    until: datetime,
    limit: float,
    seed: int,
) -> Drafted:
    """The journal as it was until `since`, under the draft from there on. The same arguments give the same answer."""
    return _Branch(was, draft, since, until, limit, seed).run(entries)


@dataclass(slots=True)
class _Branch:
    was: Recorded
    draft: Draft
    since: datetime
    until: datetime
    limit: float
    seed: int
    course: Course = field(default_factory=Course)
    tally: Tally = field(init=False)
    fates: Counter[Fate] = field(default_factory=Counter)
    _due: list[tuple[datetime, int, int, str, Act | OfferAnswered | None]] = field(default_factory=list)
    """When, in which order, in which arrival (its place), of which conversation, what; None: it is closed."""
    _numbers: int = 0
    _lives: dict[str, list[Life]] = field(default_factory=dict)
    _every: list[Life] = field(default_factory=list)
    _answered: dict[str, list[Answer]] = field(default_factory=dict)
    _every_answer: list[Answer] = field(default_factory=list)
    _held: set[int] = field(default_factory=set)
    _moments: list[tuple[datetime, str, int, ConversationDue | AgentDue]] = field(default_factory=list)
    """What the draft makes due, and when; of what is due at once the ids say what comes first, as with the timers."""
    _at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.since
        self.tally = Tally(self.since, self.until, self.limit)
        for place, life in sorted(self.was.lives.items()):
            first = self.was.turns[place].first
            assert first is not None
            if self.since <= first.at < self.until:
                self._lives.setdefault(first.agent_id, []).append(life)
                self._every.append(life)
        for (_, agent_id, at), answer in sorted(self.was.answers.items()):
            # Of what was withdrawn nobody knows what they would have said.
            if self.since <= at < self.until and answer.outcome in ("accepted", "declined", "timed_out"):
                self._answered.setdefault(agent_id, []).append(answer)
                self._every_answer.append(answer)

    def run(self, entries: Iterable[Entry]) -> Drafted:
        began = False
        for place, entry in enumerate(entries):
            if entry.at >= self.until:
                break
            if not began and entry.at >= self.since:
                began = True
                self._begin()
            if not began:
                self.course.take(place, entry)
                continue
            self._go_to(entry.at)
            for given in self._given(place, entry.given):
                self._step(place, replace(entry, given=given))
        if not began:
            self._begin()
        self._go_to(self.until)
        return Drafted(
            self.tally.end(self.course), {fate: self.fates[fate] for fate in ("as_recorded", "moved", "drawn")}
        )

    def _begin(self) -> None:
        self.tally.begin(self.course)
        roster = self.course.roster
        version = roster.policy.version + 1
        changes: list[Input] = [PolicyEdited(replace(self.draft.policy, version=version))]
        for agent_id in self.draft.doubled:
            one = roster.agent(agent_id)
            inboxes = None if one.inbox_ids is None else tuple(sorted(one.inbox_ids))
            changes += (
                AgentEdited(
                    double(agent_id),
                    f"{one.name} +1",
                    one.active,
                    tuple(sorted(one.team_ids)),
                    inboxes,
                    one.directory_sequence,
                ),
                CapacitySet(double(agent_id), one.capacity),
                SkillsSet(double(agent_id), self.draft.skills.get(agent_id, one.skills)),
                StatusGiven(
                    double(agent_id), one.state, one.state_since or self.since, one.presence_sequence, one.in_shift
                ),
            )
        for agent_id in sorted(self.draft.without):
            one = roster.agent(agent_id)
            changes.append(StatusGiven(agent_id, "offline", self.since, one.presence_sequence + 1))
        changes += (CapacitySet(agent_id, given) for agent_id, given in sorted(self.draft.capacities.items()))
        changes += (SkillsSet(agent_id, given) for agent_id, given in sorted(self.draft.skills.items()))
        for given in changes:
            self._step(-1, Entry(0, self.since, given))
        pool = self.course.pool
        for held in pool.where(lambda one: one.state == "offered"):
            self._await_answer(held)
        pool.due_anew = set(pool.held), set(roster.agents)
        self._note_dues()

    def _note_dues(self) -> None:
        for moment, at in dues(self.course.pool):
            key = moment.conversation_id if isinstance(moment, ConversationDue) else moment.agent_id
            self._numbers += 1
            heapq.heappush(self._moments, (at, key, self._numbers, moment))

    def _given(self, place: int, given: Input) -> list[Input]:
        """What becomes, under the draft, of an input that was recorded."""
        match given:
            case PolicyEdited() | ConversationDue() | AgentDue() | OfferAnswered():
                return []  # what the draft makes due or offers, and when, is its own
            case CapacitySet() if given.agent_id in self.draft.capacities:
                return []
            case SkillsSet() if given.agent_id in self.draft.skills:
                return []
            case StatusGiven() if given.agent_id in self.draft.without:
                return []
            case AgentEdited() | StatusGiven() | CapacitySet() | SkillsSet() if given.agent_id in self.draft.doubled:
                other = replace(given, agent_id=double(given.agent_id))
                return [given, replace(other, name=f"{other.name} +1") if isinstance(other, AgentEdited) else other]
            case Reopened() if self.course.is_open(given.conversation_id):
                return []  # the customer wrote into a conversation that is still open there
            case Closed() if not self._follows(place, given.conversation_id):
                return []
            case Assign(mode="manual") | CustomerWaits() if not self._follows(place, given.conversation_id):
                return []
            case Assign():
                return [] if place in self.was.refused else [replace(given, expected_version=None)]
            case _:
                return [given]

    def _follows(self, place: int, conversation_id: str) -> bool:
        """Whether the conversation has come so far as it had when this input was recorded."""
        turn = self.course.turns.get(conversation_id)
        was = self.was.turns.get(turn.place) if turn is not None else None
        if turn is None or was is None:
            return False
        if turn.first is not None:
            return turn.first == was.first
        return was.first is None or place <= was.first.place

    def _go_to(self, at: datetime) -> None:
        """Do what was drawn for the time until then, and what comes due in it."""
        while (self._due and self._due[0][0] <= at) or (self._moments and self._moments[0][0] <= at):
            if self._moments and (not self._due or self._moments[0][0] <= self._due[0][0]):
                when, _, _, moment = heapq.heappop(self._moments)
                if when < self.until:
                    self._step(-1, Entry(0, max(when, self._at), moment))
                continue
            when, _, place, conversation_id, act = heapq.heappop(self._due)
            turn, held = self.course.turns[conversation_id], self.course.known(conversation_id)
            if when >= self.until or held is None or turn.place != place or turn.closed is not None:
                continue
            before = held.sequence
            match act:
                case None:
                    given: Input = Closed(conversation_id, before + 1)
                case CustomerWaits():
                    given = replace(act, since=act.since and when, sequence=before + 1)
                case _:
                    given = act
            self._step(-1, Entry(0, when, given))
            if isinstance(given, CustomerWaits):
                held.sequence = before  # what was recorded counts on

    def _step(self, place: int, entry: Entry) -> None:
        self._at = entry.at
        made, _ = self.course.take(place, entry)
        self.tally.after(self.course, entry, made)
        self._note_dues()
        for one in made:
            turn = self.course.turns[one.conversation_id]
            if turn.first is not None and turn.place not in self._held:
                self._held.add(turn.place)
                self._foretell(turn)
            if one.kind == "offered" and entry.at >= self.since and (held := self.course.known(one.conversation_id)):
                self._await_answer(held)

    def _await_answer(self, held: Held) -> None:
        """It is offered to somebody: whether and when they answer."""
        if held.offered_to is None or held.offered_at is None:
            return  # and has been answered already, within the same input
        who, turn = original(held.offered_to), self.course.turns[held.id]
        answer = self.was.answers.get((held.id, who, held.offered_at))
        if answer is None:
            own = self._answered.get(who, [])
            known = own if len(own) >= ENOUGH else self._every_answer
            by_name = Random(f"{self.seed}:{held.id}:{held.version}")
            answer = by_name.choice(known) if known else Answer(timedelta(), "accepted")
        if answer.outcome in ("accepted", "declined"):
            given = OfferAnswered(held.id, held.offered_to, answer.outcome == "accepted")
            self._plan(turn, held.offered_at + answer.after, given)

    def _foretell(self, turn: Turn) -> None:
        """Somebody has got it: what becomes of it from here on."""
        assert turn.first is not None
        if turn.first.at < self.since:
            return
        was = self.was.turns.get(turn.place)
        if was is not None and was.first == turn.first:
            self.fates["as_recorded"] += 1
            return
        who = original(turn.first.agent_id)
        if was is not None and was.first is not None and was.first.agent_id == who:
            self.fates["moved"] += 1
            life = self.was.lives[turn.place]
        else:
            self.fates["drawn"] += 1
            own = self._lives.get(who, [])
            lives = own if len(own) >= ENOUGH else self._every
            if not lives:
                return
            # By name, not in turn: what one arrival draws is nothing to the next.
            life = drawn(lives, Random(f"{self.seed}:{turn.conversation_id}:{turn.place}"))
        for after, act in life.acts:
            given = replace(act, conversation_id=turn.conversation_id)
            if isinstance(given, Assign):
                given = replace(given, expected_version=None)
            self._plan(turn, turn.first.at + after, given)
        if life.closes is not None:
            self._plan(turn, turn.first.at + life.closes, None)

    def _plan(self, turn: Turn, at: datetime, act: Act | OfferAnswered | None) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (at, self._numbers, turn.place, turn.conversation_id, act))


_DOUBLE: Final = "+1"


def double(agent_id: str) -> str:
    """The id of an agent's double."""
    return agent_id + _DOUBLE


def original(agent_id: str) -> str:
    """The agent, or whom they are the double of."""
    return agent_id.removesuffix(_DOUBLE)
