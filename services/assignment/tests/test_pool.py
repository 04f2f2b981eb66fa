"""The matcher's decisions: examples, and what must hold whatever comes."""

import json
import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relevo.assignment.domain.deciding import apply, decide
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import (
    AgentDue,
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    ConversationDue,
    CustomerWaits,
    Described,
    Entry,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Ranked,
    Reopened,
    SkillsSet,
    StatusGiven,
    TeamEdited,
    decode,
    encode,
)
from relevo.assignment.domain.policy import Lighter, Overflow, Pace, Policy, RoutingRule, TakeBack, WaitingNotice
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import FREE, Agent, GroupKey, Roster
from relevo.assignment.domain.rules import Rules
from relevo.assignment.domain.skills import lacking
from relevo.assignment.domain.units import UNIT

from .journals import condition, facts, rules

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """A journal under way, with a pool that follows it."""

    def __init__(self, *agents: Agent, teams=(), **policy) -> None:
        self.pool = Pool(Roster(agents, Policy(**policy)), {team.id: team for team in teams})
        self.entries: list[Entry] = []

    def __call__(self, given):
        entry = Entry(len(self.entries) + 1, T0 + timedelta(seconds=len(self.entries)), given)
        self.entries.append(entry)
        before = len(self.pool.decisions)
        refusal = apply(self.pool, entry)
        assert not self.pool.drain(entry)
        return refusal or self.pool.decisions[before:]

    def opened(self, conversation: str, inbox="i", **more):
        return self(Opened(conversation, inbox, "web", T0 + timedelta(seconds=len(self.entries)), 1, **more))

    def closed(self, conversation: str):
        return self(Closed(conversation, self.pool.held[conversation].sequence + 1))

    def reopened(self, conversation: str):
        held = self.pool.held[conversation]
        at = T0 + timedelta(seconds=len(self.entries))
        return self(Reopened(conversation, held.inbox_id, "web", at, held.sequence + 1))

    def put_off(self, conversation: str):
        return self(Closed(conversation, self.pool.held[conversation].sequence + 1, "snoozed"))

    def woken(self, conversation: str):
        held = self.pool.held[conversation]
        at = T0 + timedelta(seconds=len(self.entries))
        return self(Reopened(conversation, held.inbox_id, "web", at, held.sequence + 1, held.team_id, kept=True))

    def status(self, agent: str, state):
        known = self.pool.roster.agent(agent)
        return self(StatusGiven(agent, state, T0, known.presence_sequence + 1))

    def holder(self, conversation: str):
        return self.pool.held[conversation].assignee_id

    def load(self, agent: str) -> int:
        return self.pool.roster.agents[agent].load


def agent(name: str, state="available", **more) -> Agent:
    fields = {"active": True, "inbox_ids": None, "directory_sequence": 1} | more
    return Agent(name, name.title(), state=state, **fields)


def test_round_robin_goes_round_and_survives_a_new_pool():
    story = Story(agent("ana"), agent("bea"), agent("cid"))
    for n in range(4):
        story.opened(f"c{n}")
    assert [story.holder(f"c{n}") for n in range(4)] == ["ana", "bea", "cid", "ana"]
    again = Pool(Roster(story.pool.roster.agents.values(), Policy()), {}, turn=story.pool.turn)
    (decision,) = decide(again, [Entry(9, T0, Opened("c9", "i", "web", T0, 1))])
    assert decision.assignee_id == "bea"


def test_round_robin_is_fair_where_candidates_differ():
    story = Story(agent("ana", inbox_ids=frozenset({"i"})), agent("bea"), agent("cid", inbox_ids=frozenset({"j"})))
    for n in range(6):
        story.opened(f"c{n}", inbox="ij"[n % 2])
    assert {name: story.load(name) for name in ("ana", "bea", "cid")} == {"ana": 2, "bea": 2, "cid": 2}


def test_least_loaded_counts_the_share_of_capacity():
    story = Story(agent("ana", capacity=10), agent("bea", capacity=5), strategy="least_loaded")
    for n in range(4):
        story.opened(f"c{n}")
    assert (story.load("ana"), story.load("bea")) == (3, 1)


def test_longest_idle_goes_to_who_has_had_nothing_to_do_for_longest():
    story = Story(
        agent("ana", state_since=T0 - timedelta(minutes=9)),
        agent("bea", state_since=T0 - timedelta(minutes=30)),
        strategy="longest_idle",
    )
    (first,) = story.opened("c0")
    assert (first.assignee_id, first.reason.code) == ("bea", "longest_idle")
    assert first.reason.en == "Longest idle: Bea had been idle for 30 min, the longest, of 2 available agents."
    assert first.reason.es == "Más tiempo libre: Bea llevaba 30 min libre, quien más, entre 2 agentes disponibles."
    assert story.opened("c1")[0].assignee_id == "ana"
    (third,) = story.opened("c2")
    assert third.assignee_id == "bea", "of who has something, whoever got theirs longest ago"
    assert "nobody was idle and Bea got theirs, longest ago" in third.reason.en
    story.closed("c1")
    story.closed("c0")
    story.closed("c2")
    assert story.opened("c3")[0].assignee_id == "ana", "bea's last was over later"


def test_who_comes_back_is_idle_from_then_on():
    story = Story(agent("ana"), agent("bea"), strategy="longest_idle")
    story(StatusGiven("ana", "available", T0 + timedelta(minutes=5), 1))
    story(StatusGiven("bea", "available", T0 + timedelta(minutes=4), 1))
    assert story.opened("c")[0].assignee_id == "bea"


def test_reason_names_who_was_passed_over():
    story = Story(
        agent("ana"), agent("bea"), agent("cid"), agent("dan", state="busy"), agent("eva", load=3, capacity=3)
    )
    (decision,) = story.opened("c")
    assert decision.reason.en == "Round robin: Ana was next of 3 available agents (2 excluded: 1 at capacity, 1 busy)."
    assert decision.reason.es == (
        "Turno rotatorio: era el turno de Ana entre 3 agentes disponibles "
        "(2 excluidos: 1 al límite de su capacidad, 1 ocupado)."
    )
    assert decision.runners_up == ("bea", "cid")
    assert dict(decision.excluded) == {"busy": 1, "at_capacity": 1}


@pytest.mark.parametrize(
    ("agents", "code"),
    [
        ([], "no_candidates"),
        ([agent("ana", inbox_ids=frozenset({"other"}))], "no_candidates"),
        ([agent("ana", state="offline"), agent("bea", state="away"), agent("cid", state="busy")], "no_agent_available"),
        ([agent("ana", load=1, capacity=1), agent("bea", state="offline")], "all_at_capacity"),
    ],
)
def test_nobody_can_take_it_so_it_waits_and_says_why(agents, code):
    (decision,) = Story(*[Agent(**{f: getattr(a, f) for f in a.__slots__}) for a in agents]).opened("c")
    assert (decision.kind, decision.reason.code, decision.queued_at) == ("queued", code, T0)


def test_busy_ones_come_after_available_ones_where_the_policy_says_so():
    story = Story(agent("ana", state="busy"), agent("bea", capacity=1), busy_as_fallback=True)
    assert [story.opened(f"c{n}")[0].assignee_id for n in range(2)] == ["bea", "ana"]
    assert "busy" in story.pool.decisions[-1].reason.en


def test_who_is_outside_of_their_shift_gets_work_only_where_the_policy_says_so():
    story = Story(agent("ana", in_shift=False))
    (decision,) = story.opened("c")
    assert (decision.kind, decision.reason.en) == (
        "queued",
        "Waiting: nobody is available (1 excluded: 1 outside of their shift).",
    )
    (given,) = story(StatusGiven("ana", "available", T0, 1, in_shift=True))
    assert given.assignee_id == "ana"
    allowed = Story(agent("ana", in_shift=False), out_of_shift=True)
    assert allowed.opened("c")[0].assignee_id == "ana"


def test_an_owner_goes_before_everybody_else():
    story = Story(agent("ana"), agent("bea", turn=9))
    (decision,) = story.opened("c", owner_id="bea")
    assert (decision.assignee_id, decision.reason.code) == ("bea", "owner")
    assert decision.reason.es == "Bea es responsable de este contacto."
    other = Story(agent("ana"), agent("bea", turn=9), owner_first=False)
    assert other.opened("c", owner_id="bea")[0].assignee_id == "ana"


@pytest.mark.parametrize(
    ("bea", "absent", "goes_to"),
    [
        (agent("bea", state="offline"), "anyone", "ana"),
        (agent("bea", state="offline"), "wait", None),
        (agent("bea", state="away"), "wait", None),
        (agent("bea", in_shift=False), "wait", None),
        (agent("bea", state="busy"), "wait", "ana"),
        (agent("bea", load=1, capacity=1), "wait", "ana"),
        (agent("bea", inbox_ids=frozenset({"another"})), "wait", "ana"),
        (agent("bea", active=False), "wait", "ana"),
    ],
)
def test_an_owner_who_cannot_take_it(bea, absent, goes_to):
    story = Story(agent("ana"), Agent(**{f: getattr(bea, f) for f in bea.__slots__}), owner_absent=absent)
    (decision,) = story.opened("c", owner_id="bea")
    assert decision.assignee_id == goes_to
    assert (decision.kind, decision.reason.code) == (
        ("unassigned", "owner_absent") if goes_to is None else ("assigned", "round_robin")
    )


def test_what_waits_for_its_owner_is_theirs_the_moment_they_come_unless_somebody_took_it():
    story = Story(agent("ana"), agent("bea", state="offline", capacity=2), owner_absent="wait")
    for n in range(4):
        story.opened(f"c{n}", owner_id="bea")
    assert story(Assign("c0", "agent:ana", "manual", set_assignee=True, assignee_id="ana"))[0].assignee_id == "ana"
    story.closed("c1")
    given = story.status("bea", "available")
    assert [(one.conversation_id, one.assignee_id, one.reason.code) for one in given] == [
        ("c2", "bea", "owner"),
        ("c3", "bea", "owner"),
    ]
    (moved,) = story(Assign("c2", "agent:bea", "manual", set_assignee=True, assignee_id="ana"))
    assert moved.assignee_id == "ana"
    story.closed("c2")
    (again,) = story(Reopened("c2", "i", "web", T0, story.pool.held["c2"].sequence + 1, owner_id="bea"))
    assert (again.assignee_id, again.reason.code) == ("bea", "owner"), "handing over changed nothing of the owner"


def test_who_had_the_contact_s_last_one_goes_first_where_they_can_have_it():
    story = Story(agent("ana"), agent("bea", capacity=2), agent("cid"), last_agent_days=2)
    story.opened("c0", contact_id="x")
    story(Assign("c0", "agent:ana", "manual", set_assignee=True, assignee_id="bea"))
    (still,) = story.opened("c1", contact_id="x")
    assert (still.assignee_id, still.reason.code, still.runners_up) == ("bea", "last_agent", ("cid", "ana"))
    assert still.reason.en == "Knows them: Bea has another one of this contact."
    (full,) = story.opened("c2", contact_id="x")
    assert (full.assignee_id, full.reason.code) == ("cid", "round_robin"), "otherwise by the strategy"
    story.closed("c2")
    (knows,) = story.opened("c3", contact_id="x")
    assert (knows.assignee_id, knows.reason.en) == (
        "cid",
        "Knows them: Cid had the last one of this contact until 1 s ago.",
    )
    assert knows.reason.es == "Ya le conoce: Cid tuvo la última de este contacto hasta hace 1 s."
    assert story.opened("other", contact_id="y")[0].reason.code == "round_robin"


@pytest.mark.parametrize(
    ("days", "rule_days", "goes_to"), [(3, None, "ana"), (1, None, "bea"), (3, 0, "bea"), (0, 3, "ana")]
)
def test_who_had_the_contact_s_last_one_goes_first_for_so_many_days(days, rule_days, goes_to):
    fits = RoutingRule("web", condition("conversation.channel", "equals", "web"), last_agent_days=rule_days)
    story = Story(agent("ana"), agent("bea"), last_agent_days=days, rules=(fits,))
    story.opened("c0", contact_id="x")
    story.closed("c0")
    later = decide(story.pool, [Entry(9, T0 + timedelta(days=2), Opened("c1", "i", "web", T0, 1, contact_id="x"))])[-1]
    assert later.assignee_id == goes_to


def test_what_waits_goes_to_who_had_the_contact_s_last_one_where_they_are_free_then():
    story = Story(agent("ana"), agent("bea"), last_agent_days=2, default_capacity=1)
    for name, contact in (("c0", "x"), ("c1", "y"), ("c2", "y")):
        story.opened(name, contact_id=contact)
    (given,) = story(PolicyEdited(Policy(last_agent_days=2, default_capacity=2)))
    assert (given.conversation_id, given.assignee_id, given.runners_up) == ("c2", "bea", ("ana",))


def test_a_team_that_owns_the_contact_gets_its_conversations():
    story = Story(agent("ana"), agent("bea", team_ids=frozenset({"t"})), teams=[Team("t", "Soporte")])
    (decision,) = story.opened("c", owner_team_id="t")
    assert (decision.assignee_id, decision.team_id) == ("bea", "t")
    (elsewhere,) = story.opened("d", owner_team_id="gone")
    assert elsewhere.team_id is None


def test_the_queue_drains_at_once_by_rank_then_by_waiting():
    story = Story(agent("ana", state="offline", capacity=3))
    for name, rank in (("old", 1), ("new", 1), ("low", 0), ("urgent", 3)):
        story.opened(name, rank=rank)
    given = story.status("ana", "available")
    assert [one.conversation_id for one in given] == ["urgent", "old", "new"]
    assert [one.waited_seconds for one in given] == [1.0, 4.0, 3.0]
    assert [one.conversation_id for one in story.closed("old")] == ["low"]


def test_closing_keeps_the_holder_and_reopening_gives_it_back():
    story = Story(agent("ana", capacity=1), agent("bea"))
    story.opened("c")
    assert story.closed("c") == []
    assert (story.holder("c"), story.load("ana")) == ("ana", 0)
    (back,) = story.reopened("c")
    assert (back.assignee_id, back.reason.code, back.version) == ("ana", "same_agent", 2)
    story.closed("c")
    story.status("ana", "away")
    (moved,) = story.reopened("c")
    assert (moved.from_assignee_id, moved.assignee_id) == ("ana", "bea")


def test_closed_while_waiting_leaves_the_queue():
    story = Story(agent("ana", state="offline"))
    story.opened("c")
    (left,) = story.closed("c")
    assert (left.kind, left.reason.code) == ("unassigned", "resolved")
    assert story.status("ana", "available") == []


def test_what_is_put_off_takes_no_slot_and_comes_back_to_who_had_it():
    story = Story(agent("ana", capacity=1), agent("bea", state="offline", capacity=1))
    story.opened("c")
    story.opened("d")
    (given,) = story.put_off("c")
    assert (given.conversation_id, given.assignee_id, story.holder("c"), story.load("ana")) == ("d", "ana", "ana", 1)
    (waits,) = story.woken("c")  # there is no room any more
    assert (waits.kind, waits.reason.code) == ("queued", "all_at_capacity")
    (left,) = story.put_off("c")
    assert (left.kind, left.reason.code) == ("unassigned", "snoozed")
    story.closed("d")
    story.put_off("d")
    story.opened("e")
    story.put_off("e")
    story.status("ana", "offline")
    (back,) = story.woken("e")
    assert (back.assignee_id, back.reason.code) == ("ana", "woken")  # hers, though she is not there


def test_what_lies_without_an_agent_on_purpose_lies_so_again_after_it_was_put_off():
    story = Story(agent("ana"))
    story.opened("c")
    story(Assign("c", "agent:boss", "manual", set_assignee=True, assignee_id=None))
    story.put_off("c")
    assert story.woken("c") == []
    assert (story.pool.held["c"].state, story.holder("c")) == ("unassigned", None)


def test_who_waits_and_becomes_urgent_goes_first():
    story = Story(agent("ana", state="offline", capacity=1))
    for name in ("old", "new"):
        story.opened(name)
    assert story(Ranked("new", 3, 2)) == []
    story.opened("last", rank=2)
    assert story(Ranked("last", 0, 2)) == []
    given = story.status("ana", "available")
    assert [one.conversation_id for one in given] == ["new"]
    assert [one.conversation_id for one in story.closed("new")] == ["old"]
    assert [one.conversation_id for one in story.closed("old")] == ["last"]


def test_people_may_exceed_capacity_and_what_they_decide_stays():
    story = Story(agent("ana", capacity=0), agent("bea"))
    story.opened("c")
    (moved,) = story(Assign("c", "agent:bea", "manual", set_assignee=True, assignee_id="ana"))
    assert (moved.assignee_id, moved.mode, moved.actor, story.load("ana")) == ("ana", "manual", "agent:bea", 1)
    (nobody,) = story(Assign("c", "agent:bea", "manual", set_assignee=True))
    assert (nobody.kind, nobody.reason.code) == ("unassigned", "unassigned_by_hand")
    assert story.status("ana", "busy") == story.status("bea", "busy") == story.status("bea", "available") == []
    assert story(Assign("c", "agent:bea", "manual", set_assignee=True)) == []


def test_what_a_person_decided_stands_against_a_rule_that_had_not_seen_it():
    story = Story(agent("ana"), agent("bea"), agent("cid"))
    story.opened("c")
    rule = Assign("c", "rule:r", "automation", set_assignee=True, assignee_id="cid", seen_version=1)
    story(Assign("c", "agent:bea", "manual", set_assignee=True, assignee_id="bea"))
    assert story(rule) == "hand_was_first"
    assert story.holder("c") == "bea"
    (later,) = story(replace(rule, seen_version=2))
    assert (later.assignee_id, later.mode) == ("cid", "automation")


def test_a_team_drops_who_is_not_of_it_and_hands_out():
    team = frozenset({"t"})
    story = Story(
        agent("ana"), agent("bea", team_ids=team), agent("cid", team_ids=team), teams=[Team("t", "Ventas", sequence=1)]
    )
    story.opened("c")
    (moved,) = story(Assign("c", "agent:ana", "manual", set_team=True, team_id="t"))
    assert (moved.from_assignee_id, moved.assignee_id, moved.team_id) == ("ana", "bea", "t")
    (kept,) = story(Assign("c", "rule:r", "automation", set_team=True))
    assert (kept.assignee_id, kept.team_id, kept.from_team_id, kept.mode) == ("bea", None, "t", "automation")
    assert story.load("bea") == 1


def test_a_team_that_hands_out_by_hand_leaves_it_lying():
    story = Story(agent("ana", team_ids=frozenset({"t"})), teams=[Team("t", "Ventas", auto_assign=False, sequence=1)])
    (lies,) = story.opened("c", team_id="t")
    assert lies.kind == "unassigned"
    changed = story(TeamEdited("t", "Ventas", auto_assign=True, deleted=False, sequence=2))
    assert [one.kind for one in changed] == ["queued", "assigned"]


def test_a_removed_team_lets_its_conversations_go():
    story = Story(agent("ana"), teams=[Team("t", "Ventas", sequence=1)])
    story.opened("c", team_id="t")
    changed = story(TeamEdited("t", "Ventas", auto_assign=True, deleted=True, sequence=2))
    assert (changed[-1].assignee_id, changed[-1].team_id) == ("ana", None)


def test_a_removed_agents_conversations_are_given_to_others_or_wait():
    story = Story(agent("ana"), agent("bea", state="offline", capacity=1))
    for n in range(2):
        story.opened(f"c{n}")
    changed = story(AgentEdited("ana", "Ana", active=False, team_ids=(), inbox_ids=None, sequence=2))
    assert [(one.kind, one.reason.code, one.from_assignee_id) for one in changed] == [
        ("queued", "agent_removed", "ana")
    ] * 2
    assert [one.conversation_id for one in story.status("bea", "available")] == ["c0"]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (Assign("x", "system", "manual"), "conversation_not_found"),
        (Assign("c", "system", "manual", set_assignee=True, assignee_id="x"), "agent_not_found"),
        (Assign("c", "system", "manual", set_assignee=True, assignee_id="old"), "agent_not_found"),
        (Assign("c", "system", "manual", set_team=True, team_id="x"), "team_not_found"),
        (
            Assign("c", "system", "manual", set_assignee=True, assignee_id="ana", set_team=True, team_id="t"),
            "agent_not_in_team",
        ),
        (Assign("c", "system", "manual", set_assignee=True, expected_version=7), "version_conflict"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(given, refusal):
    story = Story(agent("ana"), agent("old", active=False), teams=[Team("t", "T", sequence=1)])
    story.opened("c")
    assert story(given) == refusal
    assert story.holder("c") == "ana"


def test_what_is_older_than_known_is_dropped():
    story = Story(agent("ana", presence_sequence=5))
    assert story(StatusGiven("ana", "offline", T0, 4)) == []
    story.opened("c")
    assert story.opened("c") == []
    story.closed("c")
    assert story(Reopened("c", "i", "web", T0, 1)) == []
    assert story(AgentEdited("ana", "Ana", active=False, team_ids=(), inbox_ids=None, sequence=1)) == []
    assert story.pool.roster.agents["ana"].active


NAMES = [f"a{n}" for n in range(5)]
CONVERSATIONS = [f"c{n:02}" for n in range(25)]
INBOXES = ["i", "j"]
CHANNEL = {"i": "web", "j": "email"}
TEAMS = ["t", "u"]
STRATEGIES = ("round_robin", "least_loaded", "longest_idle", "most_skilled")


BACKS = st.builds(
    TakeBack,
    st.sampled_from(["offline", "away", "off_shift", "unanswered"]),
    st.sampled_from([0, 5, 20]),
    st.sampled_from(["queue", "team"]),
    st.sampled_from(TEAMS),
    st.booleans(),
)


class Matching(RuleBasedStateMachine):
    """Any journal at all. Conversations of the queue are partly out of memory, as they are in the service."""

    @initialize(strategy=st.sampled_from(STRATEGIES), busy=st.booleans())
    def begin(self, strategy, busy):
        self.policy = self.first = Policy(strategy, 2, busy)
        self.pool = empty(self.policy)
        self.entries = []
        self.sequence = 1
        self.given = defaultdict(list)
        self.declined = defaultdict(set)

    def take(self, given):
        self.sequence += 1
        entry = Entry(len(self.entries) + 1, T0 + timedelta(seconds=len(self.entries)), given)
        self.entries.append(entry)
        start = len(self.pool.decisions)
        apply(self.pool, entry)
        assert not self.pool.drain(entry)
        for decision in self.pool.decisions[start:]:
            given_now = decision.kind == "offered" or (
                decision.kind == "assigned" and decision.reason.code != "accepted"
            )
            if given_now and self.policy.pace and decision.mode == "automatic":
                self.in_pace(decision, entry.at)
            self.asked_of_nobody_twice(decision)
            if decision.reason.code in (*STRATEGIES, "last_agent", "same_agent", "woken"):
                chosen = self.pool.roster.agents[decision.assignee_id or decision.offered_to]
                assert not list(lacking(chosen.skills, decision.needs))
                assert chosen.used <= chosen.limit(self.policy) * UNIT, (
                    "automatic assignment never exceeds the capacity"
                )
                if decision.reason.code == "woken":
                    continue
                assert chosen.state == "available" or (
                    chosen.state == "busy" and self.policy.under(decision.rule).busy_as_fallback
                )

    def asked_of_nobody_twice(self, decision):
        """Of who declined it, as long as it waits with the same team by the same rule."""
        id_, mine = decision.conversation_id, self.declined[decision.conversation_id]
        if decision.ended is not None and decision.ended.outcome == "declined":
            mine.add((decision.ended.agent_id, decision.team_id, decision.rule))
        if decision.kind == "offered":
            assert (decision.offered_to, decision.team_id, decision.rule) not in mine
        elif decision.kind != "queued" or decision.from_assignee_id is not None:
            self.declined[id_] = set()

    def in_pace(self, decision, at):
        pace, mine = self.policy.pace, self.given[decision.assignee_id or decision.offered_to]
        if (
            decision.assignee_id
            and decision.from_assignee_id == decision.assignee_id
            and decision.reason.code != "woken"
        ):
            return  # it stayed with them
        mine.append(at)
        if decision.reason.code != "woken":
            assert sum(one > at - timedelta(seconds=pace.within_seconds) for one in mine) <= pace.most

    @rule(
        name=st.sampled_from(NAMES),
        active=st.booleans(),
        teams=st.sets(st.sampled_from(TEAMS)),
        inboxes=st.none() | st.sets(st.sampled_from(INBOXES)),
    )
    def edit(self, name, active, teams, inboxes):
        given = None if inboxes is None else tuple(sorted(inboxes))
        self.take(AgentEdited(name, name, active, tuple(sorted(teams)), given, self.sequence))

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from(["available", "available", "busy", "away", "offline"]))
    def status(self, name, state):
        self.take(StatusGiven(name, state, T0, self.sequence))

    @rule(
        c=st.sampled_from(CONVERSATIONS),
        inbox=st.sampled_from(INBOXES),
        team=st.sampled_from([None, None, *TEAMS]),
        rank=st.integers(0, 3),
        seed=st.integers(0, 99),
    )
    def open(self, c, inbox, team, rank, seed):
        dice = random.Random(seed)
        kind = Reopened if c in self.pool.held else Opened
        at = T0 - timedelta(seconds=dice.randrange(50))
        self.take(
            kind(
                c,
                inbox,
                CHANNEL[inbox],
                at,
                self.sequence,
                team,
                rank,
                facts=facts(dice),
                contact_id=dice.choice([None, "x", "y"]),
            )
        )

    @rule(c=st.sampled_from(CONVERSATIONS), seed=st.integers(0, 9))
    def describe(self, c, seed):
        self.take(Described(c, facts(random.Random(seed)), self.sequence))

    @rule(seed=st.integers(0, 100))
    def give_rules(self, seed):
        self.policy = replace(self.policy, rules=rules(random.Random(seed), TEAMS), version=self.policy.version + 1)
        self.take(PolicyEdited(self.policy))

    @rule(c=st.sampled_from(CONVERSATIONS), ago=st.integers(0, 50))
    def wake(self, c, ago):
        if (held := self.pool.held.get(c)) is not None:
            at = T0 - timedelta(seconds=ago)
            self.take(Reopened(c, held.inbox_id, held.channel, at, self.sequence, held.team_id, held.rank, kept=True))

    @rule(c=st.sampled_from(CONVERSATIONS), why=st.sampled_from(["resolved", "snoozed", "bot"]))
    def close(self, c, why):
        self.take(Closed(c, self.sequence, why))

    @rule(c=st.sampled_from(CONVERSATIONS), rank=st.integers(0, 3))
    def rank(self, c, rank):
        self.take(Ranked(c, rank, self.sequence))

    @rule(
        c=st.sampled_from(CONVERSATIONS),
        set_assignee=st.booleans(),
        assignee=st.none() | st.sampled_from(NAMES),
        set_team=st.booleans(),
        team=st.none() | st.sampled_from(TEAMS),
    )
    def assign(self, c, set_assignee, assignee, set_team, team):
        self.take(Assign(c, "agent:boss", "manual", set_assignee, assignee, set_team, team))

    @rule(team=st.sampled_from(TEAMS), auto=st.booleans(), deleted=st.booleans())
    def edit_team(self, team, auto, deleted):
        self.take(TeamEdited(team, team.upper(), auto, deleted, self.sequence))

    @rule(name=st.sampled_from(NAMES), capacity=st.none() | st.integers(0, 3))
    def capacity(self, name, capacity):
        self.take(CapacitySet(name, capacity))

    @rule(name=st.sampled_from(NAMES), skills=st.dictionaries(st.sampled_from(["pt", "sql"]), st.integers(1, 5)))
    def learn(self, name, skills):
        self.take(SkillsSet(name, skills))

    @rule(strategy=st.sampled_from(STRATEGIES), busy=st.booleans(), default=st.integers(0, 3), days=st.integers(0, 1))
    def govern(self, strategy, busy, default, days):
        more = {"strategy": strategy, "default_capacity": default, "busy_as_fallback": busy, "last_agent_days": days}
        self.policy = replace(self.policy, **more, version=self.policy.version + 1)
        self.take(PolicyEdited(self.policy))

    @rule(
        back=st.lists(BACKS, max_size=3, unique_by=lambda one: one.cause),
        overflow=st.sampled_from([(), (Overflow(None, 5, "t"), Overflow("t", 20, "u")), (Overflow("u", 0, "t"),)]),
    )
    def take_back(self, back, overflow):
        more = {"taken_back": tuple(back), "overflow": overflow}
        self.policy = replace(self.policy, **more, version=self.policy.version + 1)
        self.take(PolicyEdited(self.policy))

    @rule(
        weights=st.dictionaries(st.sampled_from(["web", "email"]), st.integers(1, 300)),
        lighter=st.none() | st.builds(Lighter, st.sampled_from([0, 5, 20]), st.integers(0, 99)),
        pace=st.none() | st.builds(Pace, st.integers(1, 2), st.sampled_from([1, 5, 20])),
    )
    def weigh(self, weights, lighter, pace):
        more = {"channel_weights": weights, "lighter": lighter, "pace": pace}
        if pace is None:
            self.given.clear()
        self.policy = replace(self.policy, **more, version=self.policy.version + 1)
        self.take(PolicyEdited(self.policy))

    @rule(c=st.sampled_from(CONVERSATIONS), since=st.none() | st.integers(0, 50))
    def customer(self, c, since):
        at = None if since is None else T0 + timedelta(seconds=since)
        self.take(CustomerWaits(c, at, self.sequence))

    @rule(due=st.sampled_from([ConversationDue(c) for c in CONVERSATIONS] + [AgentDue(one) for one in NAMES]))
    def comes_due(self, due):
        self.take(due)

    @rule(
        hand_over=st.sampled_from(["direct", "offer"]),
        seconds=st.sampled_from([5, 20]),
        most=st.none() | st.integers(1, 2),
        notice=st.none() | st.builds(WaitingNotice, st.just({"es": "{{place}}"}), st.just(5), st.none() | st.just(60)),
    )
    def ask_first(self, hand_over, seconds, most, notice):
        more = {"hand_over": hand_over, "offer_seconds": seconds, "most_unanswered": most, "waiting_notice": notice}
        self.policy = replace(self.policy, **more, version=self.policy.version + 1)
        self.take(PolicyEdited(self.policy))

    @precondition(lambda self: any(one.offered_to for one in self.pool.held.values()))
    @rule(data=st.data(), accepted=st.booleans(), somebody_else=st.booleans())
    def answer(self, data, accepted, somebody_else):
        held = data.draw(st.sampled_from(sorted(one.id for one in self.pool.held.values() if one.offered_to)))
        whom = "a0" if somebody_else else self.pool.held[held].offered_to
        self.take(OfferAnswered(held, whom, accepted, None if accepted else "no_time"))

    @invariant()
    def load_is_the_number_of_open_conversations_held(self):
        held = [one.assignee_id for one in self.pool.held.values() if one.state == "assigned"]
        for one in self.pool.roster.agents.values():
            assert one.load == held.count(one.id)
            mine = [held for held in self.pool.held.values() if (held.state, held.assignee_id) == ("assigned", one.id)]
            asked = [held for held in self.pool.held.values() if held.offered_to == one.id]
            assert one.offered == len(asked)
            assert not (asked and (one.state in ("away", "offline") or not one.active)), "nobody who has gone is asked"
            mine += asked
            assert one.used == sum(held.weight for held in mine)

    @invariant()
    def state_and_holder_agree(self):
        for one in self.pool.held.values():
            assert (one.state == "assigned") <= (one.assignee_id is not None)
            assert (one.state in ("queued", "offered", "unassigned")) <= (one.assignee_id is None)
            assert (one.state in ("queued", "offered")) == (one.queued_at is not None)
            offer = (one.offered_to, one.offered_at, one.offered_until)
            assert all((part is not None) == (one.state == "offered") for part in offer)
            assert one.notices <= 3
            assert one.id not in self.pool.to_tell or one.customer_since or one.state != "queued"
            assert one.ended is None, "each offer that ended was told of"

    @invariant()
    def nobody_who_could_take_a_waiting_one_is_free(self):
        for one in self.pool.held.values():
            if one.state != "queued":
                continue
            for someone in self.pool.roster.agents.values():
                free = someone.standing(self.pool.policy.terms(one.channel, one.rule)) in FREE
                assert not (free and someone.reaches(one.key)), (one, someone)

    @invariant()
    def what_waits_goes_by_the_rule_that_fits_it(self):
        for one in self.pool.held.values():
            if one.state == "queued":
                assert one.rule == Rules(self.pool.policy).of(one)

    @invariant()
    def what_waits_needs_what_its_rule_says_and_no_less_before_its_time(self):
        for one in self.pool.held.values():
            if one.state == "assigned":
                assert one.needs == ()
            if one.state == "queued":
                steps = self.pool.policy.ladder(one.rule)
                waited = max((self.entries[-1].at - one.queued_at).total_seconds(), 0)
                assert one.needs in [needs for after, needs in steps if after <= waited] or (one.needs, steps) == (
                    (),
                    (),
                )

    @invariant()
    def the_index_agrees_with_the_agents(self):
        roster = self.pool.roster
        needs = ((), (("pt", 2),), (("pt", 5), ("sql", 1)))
        for key in [GroupKey(i, t, (), CHANNEL[i], "", n) for i in INBOXES for t in (None, *TEAMS) for n in needs]:
            terms = roster.policy.terms(key.channel)
            members = [one for one in roster.agents.values() if one.reaches(key)]
            group = roster.group(key)
            assert group.members == {one.id for one in members}
            standings = [one.standing(terms) for one in members]
            assert {s: n for s, n in group.counts.items() if n} == {s: standings.count(s) for s in set(standings)}

    @invariant()
    def versions_are_a_chain_from_holder_to_holder(self):
        last = {}
        for one in self.pool.decisions:
            version, assignee, team = last.get(one.conversation_id, (0, None, one.from_team_id))
            assert (one.version, one.from_assignee_id, one.from_team_id) == (version + 1, assignee, team)
            last[one.conversation_id] = (one.version, one.assignee_id, one.team_id)

    def teardown(self):
        """The same journal, written down and read back, gives the same decisions."""
        if not getattr(self, "entries", None):
            return
        again = empty(self.first)
        read = [Entry(one.id, one.at, decode(*_stored(one.given))) for one in self.entries]
        assert [_plain(d) for d in decide(again, read)] == [_plain(d) for d in self.pool.decisions]


def empty(policy):
    return Pool(Roster((), policy), {t: Team(t, t.upper(), sequence=1) for t in TEAMS})


def _stored(given):
    kind, payload = encode(given)
    return kind, json.loads(payload)


def _plain(decision):
    return {name: getattr(decision, name) for name in decision.__slots__ if name != "entry"}


TestMatching = Matching.TestCase
TestMatching.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_higher_rank_goes_first_then_who_waits_longest():
    """Whatever the order of arrival: a freed slot takes the least place of those that the agent reaches."""
    for seed in range(30):
        dice = random.Random(seed)
        story = Story(agent("ana", state="offline", capacity=1, inbox_ids=frozenset({"i"})))
        places = {}
        for n in range(20):
            inbox, rank = dice.choice("ij"), dice.randrange(4)
            story.opened(f"c{n}", inbox=inbox, rank=rank)
            if inbox == "i":
                places[f"c{n}"] = (-rank, n)
        given = story.status("ana", "available")
        while places:
            expected = min(places, key=places.get)
            assert [one.conversation_id for one in given] == [expected]
            del places[expected]
            given = story.closed(expected)


@given(
    st.integers(0, 900),
    st.lists(st.tuples(st.integers(0, 3600), st.integers(0, 3), st.booleans()), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_waiting_weighs_against_priority_and_nothing_starves(worth, came):
    """Of any that wait, the one goes first that waits longest, each step of priority counted as `worth` seconds; so nothing
    is overtaken by what came more than three times `worth` later, whatever goes on coming."""
    story = Story(agent("ana", capacity=1), priority_worth_seconds=worth)
    ids = (f"c{n:02}" for n in range(99))
    waiting, at_work = {}, None
    for seconds, rank, one_closes in sorted(came):
        name, since = next(ids), T0 + timedelta(seconds=seconds)
        waiting[name] = (since, rank)
        given = story(Opened(name, "i", "web", since, 1, rank=rank))
        if one_closes and at_work is not None:
            given = story.closed(at_work)
        for decision in given:
            if decision.kind != "assigned":
                continue
            at_work = decision.conversation_id
            first, its = waiting.pop(at_work)
            for other, rank_ in waiting.values():
                assert first - timedelta(seconds=worth * its) <= other - timedelta(seconds=worth * rank_)
                assert first - other <= timedelta(seconds=3 * worth), "nothing starves"


def test_another_order_counts_at_once_for_all_that_waits():
    story = Story(agent("ana", state="offline", capacity=1))
    for n in range(9):
        story.opened(f"low{n}", rank=0)
    story.opened("urgent", rank=3)
    story(PolicyEdited(Policy(priority_worth_seconds=2)))
    assert [one.conversation_id for one in story.status("ana", "available")] == ["low0"], "3 * 2 < 9 seconds"
    story(PolicyEdited(Policy(priority_worth_seconds=3)))
    assert [one.conversation_id for one in story.closed("low0")] == ["urgent"]
