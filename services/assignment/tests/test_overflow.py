"""What waits for too long with a team goes to another one, in its place, and never round for ever."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import PolicyEdited, TeamEdited
from relevo.assignment.domain.policy import Overflow, Policy, endless
from relevo.contracts.base import new_id

from .journals import T0
from .test_assignment import assert_consistent
from .test_taken_back import Clock, govern, until_told

CHAIN = (Overflow(None, 60, "a"), Overflow("a", 30, "b"))


def clock(**more):
    made = Clock("ana", "bea", teams=[Team("a", "Alfa"), Team("b", "Beta")], overflow=CHAIN, **more)
    made.pool.roster.agents["ana"].team_ids = frozenset({"b"})
    for who in ("ana", "bea"):
        made.status(who, "away")
    return made


def test_it_goes_from_team_to_team_and_keeps_its_place():
    story = clock()
    story.opened("c")
    assert story.wait(59) == []
    first, second = story.wait(31)
    assert [(one.kind, one.reason.code, one.team_id) for one in (first, second)] == [
        ("queued", "overflow", "a"),
        ("queued", "overflow", "b"),
    ]
    assert first.reason.en == "It waited 1 min without a team: it goes to the team Alfa."
    assert second.reason.es == "Esperó 30 s con el equipo Alfa: pasa al equipo Beta."
    assert second.queued_at == T0, "whoever waits since then waits since then"
    story.opened("late", team_id="b")
    assert story.wait(10**6) == []
    given_ = story.status("ana", "available")
    assert [one.conversation_id for one in given_] == ["c", "late"]


def test_who_is_given_to_somebody_in_time_stays():
    story = clock()
    story.opened("c", team_id="a")
    story.pool.roster.agents["bea"].team_ids = frozenset({"a"})
    story.pool.roster.moved(story.pool.roster.agents["bea"])
    story.wait(29)
    (given_,) = story.status("bea", "available")
    assert given_.assignee_id == "bea"
    assert story.wait(10**6) == []


def test_a_team_that_is_gone_gets_nothing_and_one_that_hands_out_by_hand_has_it_lie_there():
    story = clock()
    story(TeamEdited("a", "Alfa", auto_assign=True, deleted=True, sequence=1))
    story.opened("c")
    assert story.wait(10**6) == []
    story(TeamEdited("b", "Beta", auto_assign=False, deleted=False, sequence=1))
    story(PolicyEdited(Policy(overflow=(Overflow(None, 10**7, "b"),), version=2)))
    (lies,) = story.wait(10**7)
    assert (lies.kind, lies.team_id, lies.reason.code) == ("unassigned", "b", "overflow")


teams = st.sampled_from([None, "a", "b", "c", "d"])
rules = st.builds(Overflow, teams, st.just(1), teams)


@given(st.lists(rules, max_size=6, unique_by=lambda one: one.team_id))
def test_a_chain_is_endless_exactly_when_one_comes_back_to_where_one_was(overflow):
    to = {one.team_id: one.to_team_id for one in overflow}

    def comes_back(team):
        seen = []
        while team in to and team not in seen:
            seen.append(team)
            team = to[team]
        return team in seen

    assert (endless(overflow) is not None) == any(comes_back(team) for team in to)


async def test_what_waits_too_long_goes_to_another_team_and_says_why(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    alfa, beta = await world.team("Alfa"), await world.team("Beta")
    ana = await world.hire("Ana", team_ids=(beta,))
    await settled()
    rule = {"team_id": alfa, "after_seconds": 1, "to_team_id": beta}
    answer = await govern(service, world, boss, overflow=[rule])
    assert answer.json()["overflow"] == [rule]
    one = await world.open(team_id=alfa)
    events = await until_told(service, settled, one, "overflow")
    assert [(event["type"], event["team_id"], event["assignee_id"]) for event in events] == [
        ("conversation_queued", alfa, None),
        ("conversation_queued", beta, None),
        ("conversation_assigned", beta, ana),
    ]
    assert events[1]["reason"]["en"] == "It waited 1 s with the team Alfa: it goes to the team Beta."
    assert events[1]["queued_at"] == events[0]["queued_at"]
    await assert_consistent(service)


@pytest.mark.parametrize("case", ["round", "unknown", "twice"])
async def test_overflow_that_cannot_be_is_refused_by_its_fields(service, world, settled, case):
    boss = await world.hire("Boss", "administrator", None)
    alfa, beta = await world.team("Alfa"), await world.team("Beta")
    await settled()
    first = {"team_id": alfa, "after_seconds": 1, "to_team_id": beta}
    second, place = {
        "round": ({"team_id": beta, "after_seconds": 9, "to_team_id": alfa}, "/overflow/1/to_team_id"),
        "unknown": ({"team_id": None, "after_seconds": 9, "to_team_id": new_id()}, "/overflow/1/to_team_id"),
        "twice": (first, "/overflow/1/team_id"),
    }[case]
    answer = await govern(service, world, boss, overflow=[first, second])
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [place], answer.text
