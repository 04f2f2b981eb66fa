"""Who is asked first has it only when they say so; meanwhile it is nobody else's, and nobody is asked too much."""

import json
from datetime import timedelta

import pytest

from relevo.assignment.domain.explaining import Record, why_not
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import (
    AgentEdited,
    Assign,
    Closed,
    OfferAnswered,
    PolicyEdited,
    Ranked,
    TeamEdited,
)
from relevo.assignment.domain.policy import Lighter, Overflow, Policy, RoutingRule, TakeBack
from relevo.assignment.domain.units import UNIT
from relevo.contracts.base import new_id

from .journals import T0, condition
from .test_assignment import assert_consistent, holder, told
from .test_taken_back import Clock, govern, shown, until_told

HIGH = condition("conversation.priority", "in", ["high", "urgent"])
UNANSWERED = TakeBack("unanswered", 60)


def desk(*agents, **policy):
    return Clock(*agents, hand_over="offer", **policy)


def accepts(one, who):
    return OfferAnswered(one, who, accepted=True)


def declines(one, who, why=None):
    return OfferAnswered(one, who, accepted=False, why=why)


def ended(decision):
    return decision.ended and (decision.ended.agent_id, decision.ended.outcome, decision.ended.why)


def test_who_is_asked_and_accepts_has_it():
    clock = desk("ana", "bea")
    (asked,) = clock.opened("c")
    assert (asked.kind, asked.offered_to, asked.assignee_id) == ("offered", "ana", None)
    assert asked.offered_until == T0 + timedelta(seconds=30)
    assert asked.reason.en == "Round robin: Ana was next of 2 available agents."
    assert clock.wait(10) == []
    (got,) = clock(accepts("c", "ana"))
    assert (got.kind, got.assignee_id, got.mode, got.actor) == ("assigned", "ana", "automatic", "agent:ana")
    assert (got.waited_seconds, ended(got)) == (10, ("ana", "accepted", None))
    assert got.reason.es == "Turno rotatorio: era el turno de Ana entre 2 agentes disponibles. Ana la aceptó."
    assert clock(accepts("c", "ana")) == [], "asked for twice"
    assert clock.wait(1000) == []


def test_who_declines_is_not_asked_again_and_the_next_one_is():
    clock = desk("ana", "bea")
    clock.opened("c")
    (asked,) = clock(declines("c", "ana", "not_my_field"))
    assert (asked.kind, asked.offered_to, ended(asked)) == ("offered", "bea", ("ana", "declined", "not_my_field"))
    assert asked.reason.en == "Ana declined it (not their field). Round robin: Bea was next of 1 available agent."
    clock.wait(5)
    (waits,) = clock(declines("c", "bea"))
    assert (waits.kind, waits.reason.code, waits.queued_at) == ("queued", "no_candidates", T0)
    assert waits.reason.es == "Bea la rechazó. En espera: no queda nadie que no la haya rechazado."
    assert clock.status("ana", "busy") + clock.status("ana", "available") == []
    record = Record("queued", "automatic", waits.reason, declined=frozenset(waits.declined))
    ana, key = clock.pool.roster.agents["ana"], clock.pool.held["c"].key
    (said,) = why_not(ana, key, clock.pool.policy, record, when="now")
    assert (said.code, said.en) == ("declined", "Ana declined it when it was offered.")


def test_who_says_nothing_loses_it_and_is_asked_again_only_when_there_is_nobody_else():
    clock = desk("ana", "bea", offer_seconds=20)
    clock.opened("c")
    assert clock.wait(19) == []
    (asked,) = clock.wait(1)
    assert (asked.offered_to, ended(asked)) == ("bea", ("ana", "timed_out", None))
    assert asked.reason.en.startswith("It was offered to Ana, who did not answer within 20 s. Round robin: Bea")
    (again,) = clock.wait(20)
    assert (again.offered_to, ended(again)[1]) == ("ana", "timed_out")
    assert clock.pool.held["c"].queued_at == T0


def test_who_let_too_many_pass_gets_nothing_until_their_status_is_another_one():
    clock = desk("ana", most_unanswered=2, offer_seconds=10)
    clock.opened("c")
    assert [one.kind for one in clock.wait(1000)] == ["offered", "queued"]
    assert clock.pool.decisions[-1].reason.en.endswith("nobody is available (1 excluded: 1 not responding).")
    (said,) = why_not(
        clock.pool.roster.agents["ana"],
        clock.pool.held["c"].key,
        clock.pool.policy,
        Record("queued", "automatic", clock.pool.decisions[-1].reason),
        when="now",
    )
    assert said.code == "not_responding"
    clock.status("ana", "away")
    assert [one.offered_to for one in clock.status("ana", "available")] == ["ana"]
    clock.wait(9)
    clock(accepts("c", "ana"))
    assert clock.pool.roster.agents["ana"].unanswered == 0


def test_what_is_offered_takes_of_the_capacity_and_nobody_is_asked_beyond_it():
    clock = desk("ana", default_capacity=2, channel_weights={"web": 150})
    clock.opened("c")
    (waits,) = clock.opened("d")
    assert (waits.kind, waits.reason.code) == ("queued", "all_at_capacity")
    ana = clock.pool.roster.agents["ana"]
    assert (ana.load, ana.offered, ana.used) == (0, 1, 150)
    next_, last = clock(declines("c", "ana"))
    assert (next_.kind, last.conversation_id, last.offered_to) == ("queued", "d", "ana")
    clock(accepts("d", "ana"))
    assert (ana.load, ana.offered, ana.used) == (1, 0, 150)


@pytest.mark.parametrize("gone", ["away", "offline"])
def test_who_goes_is_not_asked_any_more(gone):
    clock = desk("ana", "bea")
    clock.opened("c")
    (asked,) = clock.status("ana", gone)
    assert (asked.offered_to, ended(asked)[1]) == ("bea", "withdrawn")
    assert asked.reason.es.startswith(
        "Se le ofreció a Ana, que ya no puede atenderla. Turno rotatorio: era el turno de Bea"
    )
    (waits,) = clock.status("bea", "available", in_shift=False)
    assert waits.kind == "queued"
    assert clock.status("bea", "available")[0].offered_to == "bea", "they had not declined it"


def test_who_is_busy_for_what_they_are_asked_is_asked_on():
    clock = desk("ana", "bea")
    clock.opened("c")
    assert clock.status("ana", "busy") == []
    assert clock(accepts("c", "ana"))[0].assignee_id == "ana"


def test_who_is_removed_or_works_elsewhere_is_not_asked_any_more():
    clock = desk("ana", "bea")
    clock.opened("c")
    (asked,) = clock(AgentEdited("ana", "Ana", active=True, team_ids=(), inbox_ids=("j",), sequence=9))
    assert asked.offered_to == "bea"
    (waits,) = clock(AgentEdited("bea", "Bea", active=False, team_ids=(), inbox_ids=None, sequence=9))
    assert (waits.kind, clock.pool.roster.agents["bea"].offered) == ("queued", 0)


def test_what_somebody_decides_by_hand_stands_and_ends_the_offer():
    clock = desk("ana", "bea")
    clock.opened("c")
    (got,) = clock(Assign("c", "agent:bea", "manual", set_assignee=True, assignee_id="bea"))
    assert (got.assignee_id, got.mode, ended(got)) == ("bea", "manual", ("ana", "withdrawn", None))
    clock.opened("d")
    offered_to = clock.pool.held["d"].offered_to
    (mine,) = clock(Assign("d", f"agent:{offered_to}", "manual", set_assignee=True, assignee_id=offered_to))
    assert ended(mine)[1] == "accepted", "whoever takes it themselves has answered"
    clock.opened("e")
    (aside,) = clock(Assign("e", "agent:bea", "manual", set_assignee=True))
    assert (aside.kind, ended(aside)[1]) == ("unassigned", "withdrawn")


def test_what_is_closed_is_nobody_s_to_take():
    clock = desk("ana")
    clock.opened("c")
    (over,) = clock(Closed("c", clock.number()))
    assert (over.kind, over.reason.code, ended(over)[1]) == ("unassigned", "resolved", "withdrawn")
    assert clock.wait(1000) == []


def test_the_owner_and_who_had_it_have_it_at_once():
    clock = desk("ana", "bea")
    assert clock.opened("c", owner_id="bea")[0].kind == "assigned"
    clock(Closed("c", clock.number()))


def test_a_rule_may_ask_first_or_hand_over_at_once():
    rules = (RoutingRule("alta", HIGH, hand_over="direct"),)
    clock = desk("ana", "bea", rules=rules)
    assert clock.opened("c", rank=3)[0].kind == "assigned"
    assert clock.opened("d")[0].kind == "offered"
    (got,) = clock(Ranked("d", 3, clock.number()))
    assert (got.kind, ended(got)[1]) == ("assigned", "withdrawn"), "it goes by another rule than when it was offered"
    assert "withdrawn: another rule fits it now" in got.reason.en
    short = Clock("ana", rules=(RoutingRule("alta", HIGH, hand_over="offer", offer_seconds=7),))
    assert short.opened("c", rank=3)[0].offered_until == T0 + timedelta(seconds=7)


def test_offers_do_not_make_it_wait_for_longer_with_its_team():
    clock = desk(
        *("ana", "bea", "cai"),
        teams=(Team("t", "T", sequence=1), Team("u", "U", sequence=1)),
        overflow=(Overflow("t", 50, "u"),),
    )
    for one in ("ana", "bea"):
        clock(AgentEdited(one, one, active=True, team_ids=("t",), inbox_ids=None, sequence=9))
    clock(AgentEdited("cai", "Cai", active=True, team_ids=("u",), inbox_ids=None, sequence=9))
    assert clock.opened("c", team_id="t")[0].offered_to == "ana"
    made = clock.wait(60)
    assert [(one.kind, one.offered_to, one.team_id) for one in made] == [
        ("offered", "bea", "t"),
        ("queued", None, "u"),
        ("offered", "cai", "u"),
    ]


def test_a_team_that_is_removed_or_hands_out_by_hand_ends_its_offers():
    clock = desk("ana", teams=(Team("t", "T", sequence=1), Team("u", "U", sequence=1)))
    clock(AgentEdited("ana", "Ana", active=True, team_ids=("t", "u"), inbox_ids=None, sequence=9))
    clock.opened("c", team_id="t")
    clock.opened("d", team_id="u")
    (aside,) = clock(TeamEdited("t", "T", auto_assign=False, deleted=False, sequence=2))
    assert (aside.kind, ended(aside)[1]) == ("unassigned", "withdrawn")
    waits, asked = clock(TeamEdited("u", "U", auto_assign=True, deleted=True, sequence=2))
    assert (waits.kind, ended(waits)[1], asked.offered_to, asked.team_id) == ("queued", "withdrawn", "ana", None)


def test_who_let_it_lie_after_they_took_it_is_passed_over_and_who_declined_it_before_may_be_asked_again():
    clock = desk("ana", "bea", taken_back=(UNANSWERED,))
    clock.opened("c")
    clock(declines("c", "ana"))
    clock(accepts("c", "bea"))
    clock.waits("c")
    made = clock.wait(60)
    assert shown(made)[0][:2] == ("queued", "unanswered")
    assert (made[1].offered_to, made[1].passed) == ("ana", ("bea",))


def test_a_policy_that_asks_first_no_more_leaves_the_offers_that_are_made():
    clock = desk("ana", "bea", lighter=Lighter(10, 0))
    clock.opened("c")
    assert clock(PolicyEdited(Policy(version=2, channel_weights={"web": 2 * UNIT}))) == []
    (got,) = clock(accepts("c", "ana"))
    assert got.assignee_id == "ana"
    assert clock.pool.roster.agents["ana"].used == 2 * UNIT


async def offering(world, service, settled, *names, **policy):
    boss = await world.hire("Boss", "administrator", None)
    people = [await world.hire(name) for name in names]
    await settled()
    await govern(service, world, boss, hand_over="offer", **policy)
    return boss, people


async def asked(service, world, who):
    answer = await service.http.get("/offers", headers=world.as_(who))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_agent_is_told_of_an_offer_takes_it_and_all_of_it_is_published(service, world, settled):
    boss, (ana, bea) = await offering(world, service, settled, "Ana", "Bea")
    one = await world.open(priority="high")
    await settled()
    seen = await asked(service, world, ana)
    (offer,) = seen["items"]
    assert (offer["conversation_id"], offer["number"], offer["priority"]) == (one, 1, "high")
    assert 0 < offer["seconds_left"] <= 30
    assert (seen["unanswered"], seen["paused"]) == (0, False)
    assert (await asked(service, world, bea))["items"] == []
    now_ = await holder(service, world, one, boss)
    assert (now_["state"], now_["offered_to"], now_["assignee_id"], now_["position"]) == ("offered", ana, None, None)
    everybody_s = await service.http.get("/routing/offers", headers=world.as_(boss))
    assert [(item["conversation_id"], item["agent_id"]) for item in everybody_s.json()["items"]] == [(one, ana)]
    loads = (await service.http.get("/routing/agents", headers=world.as_(boss))).json()["items"]
    assert {item["name"]: (item["load"], item["offered"], item["used"]) for item in loads}["Ana"] == (0, 1, 1.0)

    refused = await service.http.post(f"/conversations/{one}/offer/accept", headers=world.as_(bea))
    assert (refused.status_code, refused.json()["code"]) == (409, "no_offer")
    for _ in range(2):
        taken = await service.http.post(f"/conversations/{one}/offer/accept", headers=world.as_(ana))
        assert (taken.status_code, taken.json()["outcome"], taken.json()["version"]) == (200, "accepted", 2), taken.text
    await settled()
    offered, assigned = await told(service, one)
    assert (offered["type"], offered["agent_id"], offered["assignee_id"]) == ("conversation_offered", ana, None)
    assert (assigned["type"], assigned["assignee_id"], assigned["mode"]) == ("conversation_assigned", ana, "automatic")
    assert (assigned["ended_offer"]["agent_id"], assigned["ended_offer"]["outcome"]) == (ana, "accepted")
    commands = [body for _, _, body in await service.admin.stored("CMD_NOTIFICATION")]
    assert len(commands) == 1
    assert b'"template":"offer"' in commands[0]
    history = (await service.http.get(f"/conversations/{one}/decisions", headers=world.as_(boss))).json()["items"]
    assert [(item["kind"], item["offered_to_name"]) for item in history] == [("assigned", None), ("offered", "Ana")]
    assert history[0]["ended_offer"]["outcome"] == "accepted"
    await assert_consistent(service)


async def test_who_declines_says_why_and_everybody_can_see_it(service, world, settled):
    boss, (ana, bea) = await offering(world, service, settled, "Ana", "Bea")
    one = await world.open()
    await settled()
    said = await service.http.post(
        f"/conversations/{one}/offer/decline", json={"why": "no_time"}, headers=world.as_(ana)
    )
    assert (said.status_code, said.json()["outcome"]) == (200, "declined"), said.text
    assert [item["conversation_id"] for item in (await asked(service, world, bea))["items"]] == [one]
    for who, code in ((ana, "declined"), (bea, "is_offered_it")):
        answer = await service.http.get(
            f"/conversations/{one}/assignment/why-not/{who}", params={"language": "en"}, headers=world.as_(boss)
        )
        assert code in [sentence["code"] for sentence in answer.json()["sentences"]], answer.text
    wrong = await service.http.post(
        f"/conversations/{one}/offer/decline", json={"why": "tired"}, headers=world.as_(bea)
    )
    assert wrong.status_code == 422
    await settled()
    assert (await told(service, one))[1]["ended_offer"] | {"offered_at": None} == {
        "agent_id": ana,
        "offered_at": None,
        "outcome": "declined",
        "why": "no_time",
    }
    await assert_consistent(service)


async def test_an_offer_that_nobody_answers_goes_on_by_itself(service, world, settled):
    boss, (ana,) = await offering(world, service, settled, "Ana", offer_seconds=5, most_unanswered=1)
    one = await world.open()
    await settled()
    await until_told(service, settled, one, "no_agent_available")
    seen = await asked(service, world, ana)
    assert (seen["items"], seen["unanswered"], seen["paused"]) == ([], 1, True)
    last = (await told(service, one))[-1]
    assert last["ended_offer"]["outcome"] == "timed_out"
    loads = (await service.http.get("/routing/agents", headers=world.as_(boss))).json()["items"]
    assert [item["paused"] for item in loads if item["agent_id"] == ana] == [True]
    said = [json.loads(body) for _, _, body in await service.admin.stored("CMD_NOTIFICATION")]
    assert [(one["agent_id"], one["template"]) for one in said] == [(ana, "offer"), (ana, "offers_paused")]
    await world.status(ana, "away")
    await world.status(ana, "available")
    await settled()
    assert [item["conversation_id"] for item in (await asked(service, world, ana))["items"]] == [one]
    await assert_consistent(service)


async def test_who_goes_offline_loses_their_offers_at_once(service, world, settled):
    _, (ana, bea) = await offering(world, service, settled, "Ana", "Bea")
    one = await world.open()
    await settled()
    await world.status(ana, "offline")
    await settled()
    assert [item["conversation_id"] for item in (await asked(service, world, bea))["items"]] == [one]
    assert (await asked(service, world, ana))["items"] == []
    await assert_consistent(service)


async def test_what_is_not_offered_cannot_be_answered_and_keys_are_offered_nothing(service, world, settled):
    _, (ana,) = await offering(world, service, settled, "Ana")
    nothing = await service.http.post(f"/conversations/{new_id()}/offer/accept", headers=world.as_(ana))
    assert (nothing.status_code, nothing.json()["code"]) == (409, "no_offer")
