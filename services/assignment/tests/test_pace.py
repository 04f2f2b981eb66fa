"""At most so many in so long: nobody is buried by what comes at once, whatever room they have."""

import json
from datetime import timedelta

import pytest

from relevo.assignment.domain import policy as policies
from relevo.assignment.domain.explaining import Record, why_not
from relevo.assignment.domain.inputs import Assign, Closed, PolicyEdited
from relevo.assignment.domain.policy import Pace, Policy
from relevo.assignment.simulating import draft

from .journals import T0
from .test_assignment import assert_consistent, told
from .test_taken_back import Clock, govern, until_told

TWO_A_MINUTE = Pace(2, 60)


def test_nobody_gets_more_within_the_time_and_the_next_comes_when_it_has_passed():
    clock = Clock("ana", pace=TWO_A_MINUTE)
    assert [clock.opened("a")[0].kind, *(one.kind for one in clock.wait(20))] == ["assigned"]
    assert clock.opened("b")[0].kind == "assigned"
    (waits,) = clock.opened("c")
    assert (waits.kind, waits.reason.code) == ("queued", "no_agent_available")
    assert waits.reason.es == "En espera: no hay nadie disponible (1 excluido: 1 a su ritmo máximo)."
    clock.opened("d")
    assert clock.wait(39) == []
    (given,) = clock.wait(1)
    assert (given.conversation_id, given.entry.at) == ("c", T0 + timedelta(seconds=60))
    assert [one.conversation_id for one in clock.wait(20)] == ["d"]


def test_who_has_given_back_what_they_got_still_keeps_to_the_pace():
    clock = Clock("ana", "bea", pace=Pace(1, 60))
    assert [clock.opened(one)[0].assignee_id for one in "ab"] == ["ana", "bea"]
    clock(Closed("a", clock.number()))
    assert clock.opened("c")[0].kind == "queued"
    assert [one.assignee_id for one in clock.wait(60)] == ["ana"]


def test_what_people_decide_does_not_count():
    clock = Clock("ana", pace=Pace(1, 60))
    clock.status("ana", "away")
    clock.opened("a")
    clock(Assign("a", "agent:boss", "manual", set_assignee=True, assignee_id="ana"))
    clock.status("ana", "available")
    assert clock.opened("b")[0].kind == "assigned"
    clock.opened("c")
    taken = clock(Assign("c", "agent:ana", "manual", set_assignee=True, assignee_id="ana"))
    assert taken[0].kind == "assigned", "by hand one may always"
    assert clock.opened("d")[0].kind == "queued"


def test_what_is_given_because_somebody_decided_on_another_one_counts():
    clock = Clock("ana", default_capacity=1, pace=TWO_A_MINUTE)
    for one in "abc":
        clock.opened(one)
    aside, given = clock(Assign("a", "agent:boss", "manual", set_assignee=True))
    assert (aside.kind, given.conversation_id, given.mode) == ("unassigned", "b", "automatic")
    assert [one.kind for one in clock(Assign("b", "agent:boss", "manual", set_assignee=True))] == ["unassigned"]
    assert [one.conversation_id for one in clock.wait(60)] == ["c"]


def test_another_pace_counts_at_once():
    clock = Clock("ana", pace=Pace(1, 600))
    clock.opened("a")
    clock.opened("b")
    assert clock.wait(120) == []
    (given,) = clock(PolicyEdited(Policy(pace=Pace(1, 60), version=2)))
    assert given.conversation_id == "b"
    clock.opened("c")
    (given,) = clock(PolicyEdited(Policy(version=3)))
    assert given.conversation_id == "c"
    assert clock.pool.roster.agents["ana"].given == ()
    assert clock.wait(10**6) == []


def test_why_not_says_how_many_in_how_long():
    clock = Clock("ana", pace=TWO_A_MINUTE)
    for one in "abc":
        clock.opened(one)
    held, agent = clock.pool.held["c"], clock.pool.roster.agents["ana"]
    record = Record("queued", "automatic", held.reason)
    (why,) = why_not(agent, held.key, clock.pool.policy, record, when="now")
    assert (why.code, why.en) == (
        "paced",
        "Ana has been given 2 within the last 1 min, as many as the policy gives.",
    )
    (why,) = why_not(agent, held.key, clock.pool.policy, record, when="then")
    assert why.es == "Ana había recibido 2 en 1 min, que es lo más que reparte la política."


def test_a_policy_keeps_its_pace():
    one = Policy(pace=TWO_A_MINUTE)
    assert policies.read(json.loads(json.dumps(policies.written(one)))) == one
    assert policies.read({"default_capacity": 10}).pace is None
    found = draft.read('{"pace": {"most": 5, "within_seconds": 30}}', Policy(), {})
    assert found.policy.pace == Pace(5, 30)
    assert draft.read('{"pace": null}', one, {}).policy.pace is None


async def test_the_service_gives_the_next_when_its_time_has_passed(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    eva = await world.hire("Eva", state="available")
    await settled()
    assert (await govern(service, world, boss, pace={"most": 2, "within_seconds": 3})).status_code == 200
    ids = [await world.open() for _ in range(3)]
    await settled()
    waits = [one["conversation_id"] for one in await told(service) if one["type"] == "conversation_queued"]
    (late,) = set(waits)
    assert late in ids
    path = f"/conversations/{late}/assignment/why-not/{eva}"
    now_ = (await service.http.get(path, headers=world.as_(boss))).json()
    events = await until_told(service, settled, late, "round_robin")
    assert events[-1]["assignee_id"] == eva
    assert events[-1]["waited_seconds"] > 1
    then = (await service.http.get(path, headers=world.as_(boss), params={"version": 1})).json()
    for told_of in (now_, then):
        assert [one["code"] for one in told_of["sentences"]] == ["paced"]
    await assert_consistent(service)


@pytest.mark.parametrize(
    ("pace", "pointer"),
    [({"most": 0, "within_seconds": 60}, "/pace/most"), ({"most": 1, "within_seconds": 0}, "/pace/within_seconds")],
)
async def test_what_is_no_pace_is_refused(service, world, settled, pace, pointer):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    answer = await govern(service, world, boss, pace=pace)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
