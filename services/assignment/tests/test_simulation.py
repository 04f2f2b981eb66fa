"""A past day, decided on again: as it was, and under drafts."""

import heapq
import random
from collections import Counter
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from relevo.assignment.domain.course import Measured, quantile
from relevo.assignment.domain.deciding import decide, take
from relevo.assignment.domain.inputs import (
    AgentDue,
    AgentEdited,
    Closed,
    ConversationDue,
    CustomerWaits,
    Entry,
    Input,
    Opened,
    PolicyEdited,
    Reopened,
    StatusGiven,
)
from relevo.assignment.domain.moments import dues
from relevo.assignment.domain.policy import Policy, RoutingRule
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Roster
from relevo.assignment.domain.simulation import Draft, Kept, Life, double, drafted, drawn, recorded
from relevo.assignment.simulating import draft
from relevo.assignment.simulating.journal import CannotSimulate

from .journals import journal

T0 = datetime(2026, 3, 2, 8, tzinfo=UTC)
SINCE, UNTIL = T0 + timedelta(hours=1), T0 + timedelta(hours=9)
LIMIT = 300.0


class Day:
    """A random day: what came, an input every so often, and what was decided on it."""

    def __init__(self, seed: int, *, one_policy: bool = False) -> None:
        draw, at = random.Random(seed), T0
        self.entries: list[Entry] = []
        pool, timers = Pool(Roster((), Policy()), {}), []

        def note(at: datetime, given: Input) -> None:
            for changed in (pool.changed_agents, pool.changed_held, *pool.due_anew):
                changed.clear()
            self.entries.append(Entry(len(self.entries) + 1, at, given))
            take(pool, self.entries[-1])
            for due, moment in dues(pool):
                heapq.heappush(timers, (max(moment, at), *astuple(due), len(self.entries) + len(timers), due))

        def ring(until: datetime) -> None:
            while timers and timers[0][0] <= until:
                moment, _, _, due = heapq.heappop(timers)
                note(moment, due)

        for came in journal(seed, 250):
            if isinstance(came, ConversationDue | AgentDue):
                continue  # here they come at their moments
            at += timedelta(seconds=draw.expovariate(250 / 36_000))
            if one_policy and at >= SINCE and isinstance(came, PolicyEdited):
                continue
            ring(at)
            match came:
                case Opened() | Reopened():
                    came = replace(came, at=at)
                case StatusGiven():
                    came = replace(came, since=at)
                case CustomerWaits():
                    came = replace(came, since=came.since and at)
            note(at, came)
        ring(UNTIL)
        self.decisions = [
            one for one in decide(Pool(Roster((), Policy()), {}), self.entries) if SINCE <= one.entry.at < UNTIL
        ]
        self.kept = {
            (one.conversation_id, one.version): Kept(
                one.entry.id, one.kind, one.mode, one.assignee_id, one.team_id, one.reason.code, one.offered_to
            )
            for one in self.decisions
        }
        self.agents = sorted({entry.given.agent_id for entry in self.entries if isinstance(entry.given, AgentEdited)})

    def was(self):
        return recorded(self.entries, self.kept, since=SINCE, until=UNTIL, limit=LIMIT)

    def would(self, changed: Draft, seed: int = 1):
        return drafted(self.entries, self.was(), changed, since=SINCE, until=UNTIL, limit=LIMIT, seed=seed)


days = st.integers(0, 10**9).map(Day)


@settings(max_examples=20)
@given(days)
def test_the_journal_gives_every_decision_again(day):
    was = day.was()
    assert was.differences == ()
    assert was.automatic == sum(one.mode == "automatic" for one in day.decisions)


@settings(max_examples=20)
@given(days, st.data())
def test_a_decision_that_was_kept_otherwise_is_found(day, data):
    version = data.draw(st.sampled_from(sorted(day.kept)))
    if data.draw(st.booleans()):
        day.kept[version] = replace(day.kept[version], assignee_id="somebody else")
    else:
        del day.kept[version]
    (difference,) = day.was().differences
    assert (difference.conversation_id, difference.version) == version


@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_what_was_as_a_draft_changes_nothing(seed):
    day = Day(seed, one_policy=True)  # as a draft is one for the whole period
    day.kept = {}
    was = day.was()
    would = day.would(Draft(was.policy))
    assert would.measured == was.measured
    assert would.fates["as_recorded"] > 0
    assert would.fates["moved"] == would.fates["drawn"] == 0


policies = st.builds(
    Policy,
    strategy=st.sampled_from(("round_robin", "least_loaded")),
    default_capacity=st.integers(0, 8),
    busy_as_fallback=st.booleans(),
    owner_first=st.booleans(),
    owner_absent=st.sampled_from(("anyone", "wait")),
)


@settings(max_examples=20)
@given(days, policies, st.data())
def test_under_any_draft_the_figures_add_up_and_come_again(day, policy, data):
    who = st.sampled_from(day.agents)
    changed = Draft(
        policy,
        data.draw(st.dictionaries(who, st.none() | st.integers(0, 5))),
        data.draw(st.frozensets(who, max_size=2)),
        tuple(sorted(data.draw(st.frozensets(who, max_size=2)))),
    )
    would = day.would(changed)
    assert would == day.would(changed)
    one = would.measured
    assert one.came == one.automatic + one.by_hand + one.closed_unheld + one.waiting
    assert len(one.waits) == one.automatic + one.by_hand
    assert all(0.0 <= agent.full <= 1.0 and agent.mean_open <= agent.most_open + 1e-9 for agent in one.agents)
    assert {agent.agent_id for agent in one.agents} <= {*day.agents, *map(double, changed.doubled)}


def shop(*, agents: int, arrivals: float, handling: float, seed: int = 3) -> list[Entry]:
    """Eight hours of a queue: so many arrivals an hour, each handled for so many seconds on average, one at a time."""
    draw = random.Random(seed)
    pool = Pool(Roster((), Policy()), {})
    noted: list[Entry] = []
    due: list[tuple[datetime, int, object]] = []

    def plan(at: datetime, given: object) -> None:
        heapq.heappush(due, (at, len(noted) + len(due), given))

    for n in range(agents):
        plan(T0, AgentEdited(f"agent-{n}", f"Agent {n}", active=True, team_ids=(), inbox_ids=None, sequence=1))
        plan(T0, StatusGiven(f"agent-{n}", "available", T0, 1))
    plan(T0, PolicyEdited(Policy(default_capacity=1, version=2)))
    at, number = T0, 0
    while at < UNTIL:
        at += timedelta(seconds=draw.expovariate(arrivals / 3600))
        number += 1
        plan(at, Opened(f"c{number}", "i", "web", at, 1))
    while due and due[0][0] < UNTIL:
        at, _, given = heapq.heappop(due)
        noted.append(Entry(len(noted) + 1, at, given))
        before = len(pool.decisions)
        for made in decide(pool, noted[-1:])[before:]:
            if made.kind == "assigned":
                plan(at + timedelta(seconds=draw.expovariate(1 / handling)), Closed(made.conversation_id, 2))
    return noted


@pytest.fixture(scope="module")
def busy():
    """Three agents who are busy nine tenths of the time."""
    noted = shop(agents=3, arrivals=54, handling=180)
    was = recorded(noted, {}, since=SINCE, until=UNTIL, limit=LIMIT)

    def would(changed: Draft, seed: int = 1):
        return drafted(noted, was, changed, since=SINCE, until=UNTIL, limit=LIMIT, seed=seed)

    return was, would


def test_more_people_let_wait_less_and_fewer_more(busy):
    was, would = busy
    with_one_more = would(Draft(was.policy, doubled=("agent-0",))).measured
    assert 0 < _mean(with_one_more) < _mean(was.measured) / 2
    assert with_one_more.late < was.measured.late
    with_one_less = would(Draft(was.policy, without=frozenset({"agent-0"}))).measured
    assert _mean(with_one_less) > 2 * _mean(was.measured)
    assert not any(agent.agent_id == "agent-0" and agent.given for agent in with_one_less.agents)


def test_who_can_what_is_needed_in_the_draft_gets_it_and_so_does_their_double(busy):
    was, would = busy
    rule = RoutingRule("sql", {"all": []}, needs={"sql": 3})
    changed = Draft(replace(was.policy, rules=(rule,)), doubled=("agent-0",), skills={"agent-0": {"sql": 3}})
    given_to = {agent.agent_id for agent in would(changed).measured.agents if agent.given}
    assert given_to == {"agent-0", double("agent-0")}


def test_what_is_drawn_comes_of_the_seed(busy):
    was, would = busy
    changed = Draft(was.policy, doubled=("agent-0",))
    assert would(changed, 1).fates["drawn"] > 100
    assert would(changed, 1).measured.waits != would(changed, 2).measured.waits


def test_a_life_that_had_not_ended_goes_on_like_those_that_lasted_longer():
    def life(minutes: int, *, ended: bool = True) -> Life:
        lasted = timedelta(minutes=minutes)
        return Life((), lasted if ended else None, lasted)

    lives = [life(1), life(2), life(5), life(8), life(3, ended=False)]
    closes = Counter(drawn(lives, random.Random(n)).closes for n in range(5000))
    # The fifth that had not ended after three minutes is shared by the two that lasted longer.
    expected = {1: 0.2, 2: 0.2, 5: 0.3, 8: 0.3}
    for minutes, share in expected.items():
        assert closes[timedelta(minutes=minutes)] / 5000 == pytest.approx(share, abs=0.03)
    assert drawn([life(1), life(3, ended=False)], random.Random(0)).closes == timedelta(minutes=3)


def _mean(measured: Measured) -> float:
    return sum(measured.waits) / len(measured.waits)


def test_a_wait_is_measured_by_hand():
    """Ana holds one and has room for one: the second waits a minute, until the first is closed; the third all day."""
    moments = iter(SINCE + timedelta(seconds=n) for n in (0, 0, 0, 10, 20, 80))

    def entry(given) -> Entry:
        at = next(moments)
        return Entry(1, at, replace(given, at=at) if isinstance(given, Opened) else given)

    noted = [
        entry(AgentEdited("ana", "Ana", active=True, team_ids=(), inbox_ids=None, sequence=1)),
        entry(StatusGiven("ana", "available", SINCE, 1)),
        entry(PolicyEdited(Policy(default_capacity=1, version=2))),
        entry(Opened("one", "i", "web", SINCE, 1)),
        entry(Opened("two", "i", "web", SINCE, 1)),
        entry(Closed("one", 2)),
    ]
    third = Entry(7, SINCE + timedelta(seconds=100), Opened("three", "i", "web", SINCE + timedelta(seconds=100), 1))
    until = SINCE + timedelta(seconds=200)
    was = recorded([*noted, third], {}, since=SINCE, until=until, limit=59.0).measured
    assert was.waits == (0.0, 60.0)
    assert (was.came, was.automatic, was.waiting, was.late) == (3, 2, 1, 2)
    (ana,) = was.agents
    assert (ana.given, ana.closed, ana.most_open) == (2, 1, 1)
    assert (ana.mean_open, ana.full) == (190 / 200, 190 / 200)


def test_quantiles_are_values_that_occurred():
    assert quantile((), 0.5) is None
    assert quantile((1.0,), 0.99) == 1.0
    hundred = tuple(map(float, range(1, 101)))
    assert [quantile(hundred, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50.0, 90.0, 99.0, 100.0]


NAMES = {"a-1": "Ana", "b-1": "Bea", "b-2": "Bea"}


def test_a_draft_names_what_is_otherwise():
    policy = Policy(default_capacity=7, owner_absent="wait", version=4)
    text = '{"strategy": "least_loaded", "capacities": {"Ana": 3, "b-1": null}, "without": ["b-2"], "doubled": ["Ana"]}'
    found = Draft(replace(policy, strategy="least_loaded"), {"a-1": 3, "b-1": None}, frozenset({"b-2"}), ("a-1",))
    assert draft.read(text, policy, NAMES) == found
    more = text.replace('"without"', '"skills": {"Ana": {" PT ": 2}}, "without"')
    assert draft.read(more, policy, NAMES) == replace(found, skills={"a-1": {"pt": 2}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ('{"strategie": 1}', "strategie"),
        ('{"default_capacity": -1}', "default_capacity: Input should be greater"),
        ('{"without": ["Bea"]}', "without: 2 agents are called Bea: name one by id (b-1, b-2)"),
        ('{"doubled": ["Cid"]}', "doubled: there is no agent Cid"),
        ('{"skills": {"Ana": {"pt": 6}}}', "skills.Ana.pt: Input should be less"),
        (
            '{"rules": [{"name": "a", "when": {"all": []}, "rings": [{"after_seconds": 3}]}]}',
            "rules.0.needs: rings ask for less than something",
        ),
        (
            '{"rules": [{"name": "a", "when": {"all": []}, "needs": {"pt": 1}, "rings": [{"after_seconds": 3, "needs": {"pt": 2}}]}]}',
            "rules.0.rings.0.needs: each ring comes later and needs less",
        ),
    ],
)
def test_a_draft_that_cannot_be_used_says_why(text, said):
    with pytest.raises(CannotSimulate) as refusal:
        draft.read(text, Policy(), NAMES)
    assert said in str(refusal.value)
