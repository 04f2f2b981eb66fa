"""Who can do it gets it; and the longer it waits, the less is asked for."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.assignment.domain import policy as policies
from relevo.assignment.domain import skills
from relevo.assignment.domain.explaining import Record, why_not
from relevo.assignment.domain.inputs import Closed, PolicyEdited, Ranked, SkillsSet
from relevo.assignment.domain.policy import Overflow, Policy, RoutingRule
from relevo.assignment.domain.skills import Ring

from .journals import T0, condition
from .test_assignment import assert_consistent, told
from .test_taken_back import Clock, govern, shown, until_told

WEB = condition("conversation.channel", "equals", "web")
HIGH = condition("conversation.priority", "in", ["high", "urgent"])
RINGS = (Ring(60, {"pt": 2}), Ring(120))
PT = RoutingRule("pt", WEB, needs={"pt": 4}, rings=RINGS)

LEVELS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 5), max_size=3)
TIMES = st.lists(st.integers(1, 100), max_size=3)


def desk(*agents, rules=(PT,), can=None, **policy):
    clock = Clock(*agents, rules=rules, **policy)
    for agent, levels in (can or {}).items():
        clock(SkillsSet(agent, levels))
    return clock


def test_who_can_gets_it_and_who_cannot_does_not():
    clock = desk("ana", "bea", "cai", can={"bea": {"pt": 4}, "cai": {"pt": 3, "sql": 5}})
    assert [clock.opened(one)[0].assignee_id for one in "ab"] == ["bea", "bea"]
    assert clock.pool.decisions[0].candidates == 1
    assert clock.pool.decisions[0].needs == (("pt", 4),)


def test_the_longer_it_waits_the_less_is_needed():
    clock = desk("ana", "bea", can={"bea": {"pt": 2}})
    (waits,) = clock.opened("a")
    assert (waits.kind, waits.reason.code, waits.needs) == ("queued", "no_candidates", (("pt", 4),))
    assert waits.reason.es == "En espera: nadie de este canal y equipo tiene lo que pide: pt 4."
    assert clock.wait(59) == []
    widened, got = clock.wait(1)
    assert shown([widened, got]) == [("queued", "widened", None, None), ("assigned", "round_robin", None, "bea")]
    assert widened.reason.en == "It waited 1 min for pt 4: pt 2 will do now."
    assert (widened.queued_at, widened.needs, got.needs) == (T0, (("pt", 2),), (("pt", 2),))
    assert got.waited_seconds == 60


def test_at_last_anybody_will_do_and_those_who_came_first_go_first():
    clock = desk("ana")
    clock.opened("a")
    clock.wait(30)
    clock.opened("b")
    made = clock.wait(90)
    assert [one.conversation_id for one in made if one.kind == "assigned"] == ["a"]
    assert made[-2].reason.es == "Esperó 2 min con pt 2: ahora puede llevársela cualquiera."
    assert [one.conversation_id for one in clock.wait(30) if one.kind == "assigned"] == ["b"]


def test_a_moment_that_rings_late_finds_the_ring_of_its_time():
    clock = desk("ana")
    clock.opened("a")
    clock.timers = {due: at + timedelta(seconds=100) for due, at in clock.timers.items()}
    assert [one.needs for one in clock.wait(160)] == [(), ()]


def test_who_learns_it_gets_what_waits_and_who_forgets_it_keeps_what_they_have():
    clock = desk("ana")
    clock.opened("a")
    (got,) = clock(SkillsSet("ana", {"pt": 5}))
    assert (got.conversation_id, got.assignee_id) == ("a", "ana")
    assert clock(SkillsSet("ana", {})) == []
    assert clock.holder("a") == "ana"


def test_who_fits_best_goes_first_also_when_less_will_do():
    rule = RoutingRule("pt", WEB, strategy="most_skilled", needs={"pt": 5, "sql": 5}, rings=(Ring(60, {"pt": 1}),))
    clock = desk(
        "ana", "bea", "cai", rules=(rule,), can={"ana": {"pt": 1}, "bea": {"pt": 3, "sql": 2}, "cai": {"pt": 4}}
    )
    clock.opened("a")
    clock.opened("b")
    assert [one.assignee_id for one in clock.wait(60) if one.kind == "assigned"] == ["bea", "bea"]
    assert clock.pool.decisions[-1].reason.es == "Mejor preparado: Bea (pt 3, sql 2), entre 3 agentes disponibles."
    clock.status("bea", "busy")
    clock.opened("c")
    assert [one.assignee_id for one in clock.wait(60) if one.kind == "assigned"] == ["cai"]


def test_another_rule_or_another_policy_asks_for_something_else_at_once():
    high = RoutingRule("alta", HIGH, needs={"sql": 1})
    clock = desk("ana", rules=(high, PT), can={"ana": {"sql": 1}})
    clock.opened("a")
    asks, got = clock(Ranked("a", 3, clock.number()))
    assert (asks.reason.code, asks.reason.es) == ("routing_rule", "En espera: ahora pide por la regla «alta»: sql 1.")
    assert got.assignee_id == "ana"
    clock.opened("b")
    less = RoutingRule("pt", WEB, needs={"sql": 1})
    asks, got = clock(PolicyEdited(Policy(rules=(high, less), version=2)))
    assert (asks.conversation_id, asks.needs, got.assignee_id) == ("b", (("sql", 1),), "ana")


def test_rings_do_not_begin_anew_what_time_with_a_team_begins():
    clock = desk("ana", teams=(), overflow=(Overflow(None, 90, None),))
    clock.opened("a")
    clock.wait(60)
    assert clock.pool.held["a"].held_since == T0


def test_what_is_opened_again_waits_anew():
    clock = desk("ana")
    clock.opened("a")
    clock.wait(60)
    clock(Closed("a", clock.number()))
    clock.opened("a")
    assert clock.pool.held["a"].needs == (("pt", 4),)
    assert clock.wait(59) == []


def test_why_not_says_what_is_lacking():
    clock = desk("ana", can={"ana": {"pt": 3}})
    clock.opened("a")
    held, agent = clock.pool.held["a"], clock.pool.roster.agents["ana"]
    record = Record("queued", "automatic", held.reason)
    (why,) = why_not(agent, held.key, clock.pool.policy, record, when="now")
    assert (why.code, why.es) == ("unskilled", "Ana no llega a pt de nivel 4 (el suyo es 3).")
    assert why.en == "Ana lacks pt of level 4 (theirs is 3)."
    clock(SkillsSet("ana", {}))
    (why,) = why_not(agent, held.key, clock.pool.policy, record, when="then")
    assert why.es == "Ana no llegaba a pt de nivel 4 (no la tenía)."


def test_a_policy_keeps_its_needs():
    one = Policy(rules=(PT,))
    assert policies.read(json.loads(json.dumps(policies.written(one)))).ladder("pt") == one.ladder("pt")
    spelled = {"name": "pt", "when": WEB, "needs": {"  Portugués  BR ": 2}}
    assert policies.read({"rules": [spelled]}).rules[0].needs == {"portugués br": 2}
    with pytest.raises(ValueError):
        policies.read({"rules": [spelled | {"needs": {"pt": 6}}]})


@given(LEVELS, TIMES, st.lists(LEVELS, max_size=3), LEVELS, st.integers(0, 200))
def test_who_fits_goes_on_fitting(needs, times, rings, can, waited):
    rings = [Ring(after, less) for after, less in zip(times, rings, strict=False)]
    if skills.first_fault(needs, rings) is not None:
        return
    steps = skills.ladder(needs, rings)
    now, later = skills.needed(steps, waited), skills.needed(steps, waited + 50)
    assert not list(skills.lacking(can, later)) or list(skills.lacking(can, now))
    if (after := skills.next_ring(steps, now)) is not None:
        assert after > waited
        assert skills.needed(steps, after) != now
        assert skills.needed(steps, after - 1) == now


async def test_the_service_asks_for_less_when_its_time_has_come(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    eva = await world.hire("Eva", state="available")
    leo = await world.hire("Leo", state="available")
    await settled()
    rule = {"name": "pt", "when": {"all": []}, "needs": {"PT": 3}, "rings": [{"after_seconds": 3, "needs": {"pt": 1}}]}
    assert (await govern(service, world, boss, rules=[rule])).status_code == 200
    head = world.as_(boss)
    set_ = await service.http.put(f"/routing/agents/{leo}/skills", json={"skills": {"Pt": 1, "SQL": 5}}, headers=head)
    assert (set_.status_code, set_.json()["skills"]) == (200, {"pt": 1, "sql": 5})
    one = await world.open()
    await settled()
    (queued,) = [event for event in await told(service) if event["type"] == "conversation_queued"]
    assert (queued["conversation_id"], queued["needs"]) == (one, {"pt": 3})
    waits = (await service.http.get(f"/conversations/{one}/assignment", headers=head)).json()
    assert (waits["state"], waits["needs"]) == ("queued", {"pt": 3})
    path = f"/conversations/{one}/assignment/why-not"
    now_ = (await service.http.get(f"{path}/{leo}", headers=head)).json()
    assert [said["code"] for said in now_["sentences"]] == ["unskilled"]
    events = await until_told(service, settled, one, "round_robin")
    assert (events[-1]["assignee_id"], events[-2]["reason"]["code"], events[-2]["needs"]) == (leo, "widened", {"pt": 1})
    for version, who in ((1, leo), (2, eva), (3, eva)):
        then = (await service.http.get(f"{path}/{who}", headers=head, params={"version": version})).json()
        assert [said["code"] for said in then["sentences"]] == ["unskilled"], version
    decisions = (await service.http.get(f"/conversations/{one}/decisions", headers=head)).json()["items"]
    assert [made["needs"] for made in decisions] == [{"pt": 1}, {"pt": 1}, {"pt": 3}]
    listed = (await service.http.get("/routing/skills", headers=head)).json()["items"]
    assert listed == [
        {"name": "pt", "agents": 1, "highest": 1, "rules": ["pt"]},
        {"name": "sql", "agents": 1, "highest": 5, "rules": []},
    ]
    await assert_consistent(service)


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        ({"needs": {"pt": 6}}, "/rules/0/needs/pt"),
        ({"rings": [{"after_seconds": 3}]}, "/rules/0/needs"),
        ({"needs": {"pt": 2}, "rings": [{"after_seconds": 3, "needs": {"pt": 3}}]}, "/rules/0/rings/0/needs"),
        ({"needs": {"pt": 2}, "rings": [{"after_seconds": 3, "needs": {"es": 1}}]}, "/rules/0/rings/0/needs"),
        (
            {"needs": {"pt": 2}, "rings": [{"after_seconds": 3, "needs": {"pt": 1}}, {"after_seconds": 3}]},
            "/rules/0/rings/1/after_seconds",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused(service, world, settled, rule, pointer):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    answer = await govern(service, world, boss, rules=[{"name": "pt", "when": {"all": []}} | rule])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_only_who_manages_routing_sets_skills_and_only_of_who_is_there(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    eva = await world.hire("Eva")
    await settled()
    skill = {"skills": {"pt": 1}}
    no = await service.http.put(f"/routing/agents/{eva}/skills", json=skill, headers=world.as_(eva))
    assert (no.status_code, no.json()["code"]) == (403, "permission_missing")
    gone = await service.http.put(f"/routing/agents/{world.account}/skills", json=skill, headers=world.as_(boss))
    assert (gone.status_code, gone.json()["code"]) == (404, "agent_not_found")
    bad = await service.http.put(f"/routing/agents/{eva}/skills", json={"skills": {"pt": 9}}, headers=world.as_(boss))
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/skills/pt")
