"""A policy's rules: which conversations they are for, what is otherwise for these, and when a conversation goes by another."""

import random
from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from relevo.assignment.domain.deciding import decide
from relevo.assignment.domain.explaining import Record, why, why_not
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import Assign, Closed, Described, Entry, Opened, PolicyEdited, Ranked, Reopened
from relevo.assignment.domain.policy import Overflow, Policy, RoutingRule
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Roster
from relevo.assignment.domain.simulation import Draft, drafted, recorded
from relevo.assignment.simulating import draft
from relevo.assignment.simulating.journal import CannotSimulate
from relevo.contracts import conversation
from relevo.contracts.base import new_id
from relevo.contracts.identity import CalendarChanged, CalendarState, WeekdayHours
from relevo.contracts.snapshots import ContactSnapshot
from relevo.kernel.business_time import WEEKDAYS

from .journals import T0, journal, rules
from .test_assignment import assert_consistent, told
from .test_taken_back import Clock, govern, until_told


def when(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


VIP = RoutingRule("vip", when("contact.labels", "contains_any", ["vip"]), team_id="a")
MAIL = RoutingRule(
    "mail", when("conversation.channel", "equals", "email"), strategy="least_loaded", busy_as_fallback=True
)
TEAMS = [Team("a", "Alfa"), Team("b", "Beta")]
OF_VIP = {"contact.labels": ["vip"]}


class Day(Clock):
    """Ana is of team Alfa, Bea of none."""

    def __init__(self, *rules, **policy) -> None:
        super().__init__("ana", "bea", teams=[replace(one) for one in TEAMS], rules=rules, **policy)
        self.pool.roster.agents["ana"].team_ids = frozenset({"a"})

    def came(self, one, channel="web", **more):
        return self(Opened(one, channel, channel, self.at, self.number(), **more))

    def away(self):
        for who in ("ana", "bea"):
            self.status(who, "away")


def test_the_first_rule_that_fits_counts_and_others_go_by_the_policy():
    day = Day(VIP, MAIL)
    (given_,) = day.came("c", "email", facts=OF_VIP)
    assert (given_.team_id, given_.assignee_id, given_.rule, given_.reason.code) == ("a", "ana", "vip", "round_robin")
    (mail,) = day.came("m", "email")
    assert (mail.team_id, mail.rule, mail.reason.code) == (None, "mail", "least_loaded")
    (plain,) = day.came("p")
    assert (plain.rule, plain.reason.code) == ("", "round_robin")
    record = Record("assigned", "automatic", given_.reason, "ana", "Ana", policy_version=3, rule="vip")
    assert why(record)[-1].en == "Version 3 of the routing policy, rule “vip”, was followed."
    assert why(record)[-1].es == "Se aplicó la versión 3 de la política de reparto, regla «vip»."


def test_who_is_busy_is_a_candidate_only_for_the_rule_that_says_so():
    day = Day(MAIL)
    day.status("ana", "offline")
    day.status("bea", "busy")
    (waits,) = day.came("p")
    assert waits.kind == "queued"
    (given_,) = day.came("m", "email")
    assert given_.assignee_id == "bea"
    bea, policy = day.pool.roster.agents["bea"], day.pool.policy
    codes = {
        one: [
            s.code
            for s in why_not(
                bea, day.pool.held[one].key, policy, Record("queued", "automatic", waits.reason), when="now"
            )
        ]
        for one in ("p", "m")
    }
    assert codes == {"p": ["busy"], "m": ["next"]}


def test_what_rules_look_at_becomes_otherwise_while_it_waits():
    day = Day(VIP)
    day.away()
    day.came("early", team_id="a")
    day.wait(5)
    day.came("c")
    day.wait(5)
    (moved,) = day(Described("c", OF_VIP, day.number()))
    assert (moved.kind, moved.team_id, moved.reason.code) == ("queued", "a", "routing_rule")
    assert moved.reason.en == "The rule “vip” fits it now: it goes to the team Alfa."
    assert moved.queued_at == T0 + timedelta(seconds=5), "it keeps its place"
    day.came("late", team_id="a")
    assert [one.conversation_id for one in day.status("ana", "available")] == ["early", "c", "late"]
    assert day(Described("c", {}, day.number())) == [], "who has it keeps it"


def test_a_rule_by_priority_and_one_by_team():
    urgent = RoutingRule("urgent", when("conversation.priority", "equals", "urgent"), busy_as_fallback=True)
    of_b = RoutingRule("of b", when("conversation.team_id", "equals", "b"), strategy="least_loaded")
    day = Day(urgent, of_b)
    day.status("ana", "offline")
    day.status("bea", "busy")
    day.came("c")
    (given_,) = day(Ranked("c", 3, day.number()))
    assert (given_.assignee_id, given_.rule) == ("bea", "urgent")
    day.pool.roster.agents["bea"].team_ids = frozenset({"b"})
    day.pool.roster.moved(day.pool.roster.agents["bea"])
    day.status("bea", "available")
    day.came("d")
    (moved,) = day(Assign("d", "agent:ana", "manual", set_team=True, team_id="b")) or day.pool.decisions[-1:]
    assert (moved.team_id, moved.rule) == ("b", "of b")


def test_a_team_that_a_person_chose_stands():
    day = Day(VIP)
    day.away()
    day.came("c", facts=OF_VIP)
    day(Assign("c", "agent:ana", "manual", set_team=True, team_id="b"))
    assert day(Described("c", {}, day.number())) == []
    assert day(Described("c", OF_VIP, day.number())) == []
    day(Closed("c", day.number()))
    day(Reopened("c", "web", "web", day.at, day.number(), facts=OF_VIP))
    assert (day.pool.held["c"].team_id, day.pool.held["c"].rule) == ("b", "vip")


def test_another_policy_puts_what_waits_under_its_own_rules():
    day = Day(MAIL)
    day.away()
    day.came("m", "email", facts=OF_VIP)
    (moved,) = day(PolicyEdited(Policy(rules=(VIP,), version=2)))
    assert (moved.team_id, moved.rule) == ("a", "vip")
    assert day(PolicyEdited(Policy(version=3))) == []
    assert day.pool.held["m"].rule == ""
    (given_,) = day.status("ana", "available")
    assert (given_.rule, given_.reason.code, given_.team_id) == ("", "round_robin", "a")


def test_what_a_policy_moves_is_moved_in_one_order_whatever_was_read_first():
    moved = []
    for order in ("cde", "edc"):
        day = Day()
        day.away()
        for one in order:
            day(Opened(one, "i", "web", T0 - timedelta(seconds=ord(one)), day.number(), facts=OF_VIP))
        moved.append([one.conversation_id for one in day(PolicyEdited(Policy(rules=(VIP,), version=2)))])
    assert moved == [["e", "d", "c"]] * 2, "the oldest first"


def test_an_owner_is_waited_for_as_long_as_the_rule_says_then_it_goes_to_anyone():
    patient = RoutingRule("vip", OF_VIP_WHEN, owner_absent="wait", owner_wait_seconds=60)
    day = Day(patient)
    day.status("bea", "offline")
    (lies,) = day.came("c", owner_id="bea", facts=OF_VIP)
    assert (lies.kind, lies.reason.code) == ("unassigned", "owner_absent")
    assert day.came("d", owner_id="bea")[0].assignee_id == "ana", "without the rule it goes to anyone at once"
    assert day.wait(59) == []
    (given_,) = day.wait(1)
    assert given_.assignee_id == "ana"
    assert given_.reason.en.startswith(
        "It waited 1 min for Bea, the owner of this contact, who did not come. Round robin"
    )
    day.came("e", owner_id="bea", facts=OF_VIP)
    day.wait(30)
    assert [one.assignee_id for one in day.status("bea", "available")] == ["bea"]
    assert day.wait(10**6) == []


IS_OPEN = {"field": "business_hours.open", "operator": "equals", "value": True}
OF_VIP_WHEN = when("contact.labels", "contains_any", ["vip"])


def test_from_a_team_to_anybody_and_so_the_whole_chain_in_its_times():
    """The owner for a minute, then the rule's team for two, then anybody."""
    chain = RoutingRule("vip", OF_VIP_WHEN, team_id="a", owner_absent="wait", owner_wait_seconds=60)
    day = Day(chain, overflow=(Overflow("a", 120, None),))
    day.status("ana", "away")
    day.came("c", owner_id="cid", facts=OF_VIP)
    assert day.pool.held["c"].state == "queued", "no such owner: it waits with the team"
    (anybody, given_) = day.wait(120)
    assert (anybody.team_id, anybody.reason.en) == (None, "It waited 2 min with the team Alfa: it goes to anybody.")
    assert given_.assignee_id == "bea"
    day.status("bea", "offline")
    day.came("d", owner_id="bea", facts=OF_VIP)
    made = day.wait(60 + 120)
    assert [(one.kind, one.team_id) for one in made] == [("queued", "a"), ("queued", None)]


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_draft_that_has_rules_is_judged_on_what_was_recorded(seed):
    entries = [Entry(n, T0 + timedelta(seconds=n), one) for n, one in enumerate(journal(seed, 150), 1)]
    since, until = T0, T0 + timedelta(seconds=200)
    was = recorded(entries, {}, since=since, until=until, limit=60)
    changed = Draft(replace(was.policy, rules=rules(random.Random(seed), [new_id()])))
    would = [drafted(entries, was, changed, since=since, until=until, limit=60, seed=1) for _ in range(2)]
    assert would[0] == would[1]
    assert would[0].measured.came > 0


def test_facts_of_the_record_are_what_a_draft_is_judged_on():
    noted = [
        Opened("c", "i", "web", T0, 1, facts=OF_VIP),
        Opened("d", "i", "web", T0, 2),
    ]
    pool = Pool(Roster((), Policy(rules=(VIP,))), {"a": Team("a", "Alfa")})
    made = decide(pool, [Entry(n, T0, one) for n, one in enumerate(noted, 1)])
    assert [one.team_id for one in made] == ["a", None]


def test_a_draft_names_rules_and_says_what_is_wrong_with_their_conditions():
    given_ = draft.read('{"rules": [{"name": "x", "when": {"all": []}, "strategy": "least_loaded"}]}', Policy(), {})
    assert given_.policy.rules == (RoutingRule("x", {"all": []}, strategy="least_loaded"),)
    wrong = '{"rules": [{"name": "x", "when": {"field": "mood", "operator": "equals", "value": "bad"}}]}'
    with pytest.raises(CannotSimulate, match=r"rules\.0\.when: /field"):
        draft.read(wrong, Policy(), {})


# The service.


async def test_rules_by_labels_and_hours_give_teams_and_terms_and_say_so(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    team = await world.team("Noche")
    ana, bea = await world.hire("Ana", team_ids=(team,)), await world.hire("Bea", state="busy")
    always = tuple(WeekdayHours(day=day, opens="00:00", closes="24:00") for day in WEEKDAYS)
    hours = CalendarState(
        id=new_id(), account_id=world.account, name="c", time_zone="UTC", weekly=always, inbox_ids=(world.inbox,)
    )
    await world.tell(CalendarChanged(calendar=hours), hours.id)
    await settled()
    rules_ = [
        {
            "name": "vip",
            "when": {"all": [OF_VIP_WHEN, IS_OPEN]},
            "busy_as_fallback": True,
        },
        {"name": "noche", "when": when("conversation.labels", "contains_any", ["noche"]), "team_id": team},
    ]
    answer = await govern(service, world, boss, rules=rules_)
    assert answer.status_code == 200, answer.text
    assert [one["name"] for one in answer.json()["rules"]] == ["vip", "noche"]
    await world.status(ana, "away")
    await settled()
    vip = await world.open(contact=ContactSnapshot(id=new_id(), labels=("vip",)))
    elsewhere = await world.open(contact=ContactSnapshot(id=new_id(), labels=("vip",)), inbox_id=new_id())
    plain = await world.open()
    await settled()
    assert (await told(service, vip))[-1]["assignee_id"] == bea
    assert (await told(service, plain))[-1]["type"] == "conversation_queued"
    assert (await told(service, elsewhere))[-1]["type"] == "conversation_queued", "no calendar says that it is open"
    shown = await service.http.get(f"/conversations/{vip}/decisions", headers=world.as_(boss))
    assert shown.json()["items"][0]["rule"] == "vip"
    path = f"/conversations/{vip}/assignment/why"
    said = await service.http.get(path, params={"language": "es"}, headers=world.as_(boss))
    assert "regla «vip»" in said.json()["sentences"][-1]["text"]
    path = f"/conversations/{plain}/assignment/why-not/{bea}"
    said = await service.http.get(path, headers=world.as_(boss))
    assert [one["code"] for one in said.json()["sentences"]] == ["busy"]
    await world.change_to(conversation.LabelsChanged, plain, labels=("noche",), added=("noche",))
    await settled()
    assert [(event["type"], event["team_id"]) for event in await told(service, plain)] == [
        ("conversation_queued", None),
        ("conversation_queued", team),
    ]
    await world.status(ana, "available")
    await settled()
    assert (await told(service, plain))[-1]["assignee_id"] == ana
    await assert_consistent(service)


async def test_the_owner_then_the_team_then_anybody_each_in_its_time(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    team = await world.team("Alfa")
    owner = await world.hire("Ana", state="offline")
    bea = await world.hire("Bea")
    await settled()
    chain = {"name": "vip", "when": OF_VIP_WHEN, "team_id": team, "owner_absent": "wait", "owner_wait_seconds": 1}
    overflow = [{"team_id": team, "after_seconds": 1, "to_team_id": None}]
    answer = await govern(service, world, boss, rules=[chain], overflow=overflow)
    assert answer.status_code == 200, answer.text
    one = await world.open(contact=ContactSnapshot(id=new_id(), labels=("vip",), owner_id=owner))
    events = await until_told(service, settled, one, "overflow")
    assert [(event["type"], event["team_id"], event["reason"]["code"]) for event in events] == [
        ("conversation_unassigned", None, "owner_absent"),
        ("conversation_queued", team, "no_candidates"),
        ("conversation_queued", None, "overflow"),
        ("conversation_assigned", None, "round_robin"),
    ]
    assert events[1]["reason"]["en"].startswith("It waited 1 s for Ana, the owner of this contact, who did not come.")
    assert events[-1]["assignee_id"] == bea
    await assert_consistent(service)


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"when": when("mood", "equals", "bad")}, "/rules/1/when/field"),
        ({"when": {"any": []}}, "/rules/1/when/any"),
        ({"name": "first"}, "/rules/1/name"),
        ({"team_id": new_id()}, "/rules/1/team_id"),
        ({"strategy": "hope"}, "/rules/1/strategy"),
        ({"name": ""}, "/rules/1/name"),
    ],
)
async def test_rules_that_cannot_be_are_refused_by_their_fields(service, world, settled, wrong, place):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    first = {"name": "first", "when": {"all": []}}
    answer = await govern(service, world, boss, rules=[first, {"name": "second", "when": {"all": []}} | wrong])
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [place], answer.text
