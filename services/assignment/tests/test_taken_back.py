"""Conversations are taken back from who has gone, or lets their customer wait: in time, not before, and explained."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relevo.assignment.domain.deciding import take
from relevo.assignment.domain.held import Team
from relevo.assignment.domain.inputs import (
    Assign,
    Closed,
    CustomerWaits,
    Entry,
    Opened,
    PolicyEdited,
    StatusGiven,
)
from relevo.assignment.domain.moments import dues
from relevo.assignment.domain.policy import Policy, TakeBack
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent, Roster
from relevo.contracts import conversation
from relevo.contracts.base import new_id, now
from relevo.contracts.snapshots import MessageSnapshot

from .journals import T0
from .test_assignment import assert_consistent, told

OFFLINE, AWAY = TakeBack("offline", 60), TakeBack("away", 300)
OFF_SHIFT, UNANSWERED = TakeBack("off_shift", 30), TakeBack("unanswered", 120)


class Clock:
    """A pool whose timers ring, at their moment and never before."""

    def __init__(self, *agents: str, teams=(), **policy) -> None:
        people = [
            Agent(one, one.title(), active=True, state="available", inbox_ids=None, directory_sequence=1)
            for one in agents
        ]
        self.pool = Pool(Roster(people, Policy(**policy)), {team.id: team for team in teams})
        self.at = T0
        self.timers = {}
        self.sequence = 0
        self.story = []

    def __call__(self, given):
        before = len(self.pool.decisions)
        for changed in (self.pool.changed_agents, self.pool.changed_held, *self.pool.due_anew):
            changed.clear()
        entry = Entry(len(self.story) + 1, self.at, given)
        self.story.append(entry)
        assert take(self.pool, entry) is None
        self.timers |= {due: max(at, self.at) for due, at in dues(self.pool)}
        return self.pool.decisions[before:]

    def wait(self, seconds):
        """So much time passes; answers what was decided in it."""
        until, made = self.at + timedelta(seconds=seconds), []
        rung = 0
        while self.timers and (first := min(self.timers.items(), key=lambda one: (one[1], str(one[0]))))[1] <= until:
            rung += 1
            assert rung < 1000, "timers that only ring"
            due, self.at = first
            del self.timers[due]
            made += self(due)
        self.at = until
        return made

    def number(self):
        self.sequence += 1
        return self.sequence

    def opened(self, one, **more):
        return self(Opened(one, "i", "web", self.at, self.number(), **more))

    def status(self, who, state, *, in_shift=None):
        return self(StatusGiven(who, state, self.at, self.number(), in_shift))

    def waits(self, one):
        return self(CustomerWaits(one, self.at, self.number()))

    def answered(self, one):
        return self(CustomerWaits(one, None, self.number()))

    def holder(self, one):
        return self.pool.held[one].assignee_id


def shown(made):
    return [(one.kind, one.reason.code, one.from_assignee_id, one.assignee_id) for one in made]


def test_nothing_is_taken_back_where_the_policy_says_nothing():
    clock = Clock("ana", "bea")
    clock.opened("c")
    clock.status("ana", "offline")
    assert clock.wait(10**6) == []
    assert clock.timers == {}


def test_who_stays_offline_loses_what_they_have_with_the_reason_and_who_comes_back_in_time_keeps_it():
    clock = Clock("ana", "bea", taken_back=(OFFLINE,))
    clock.opened("c")
    clock.status("ana", "offline")
    assert clock.wait(59) == []
    clock.status("ana", "available")
    assert clock.wait(300) == []
    clock.status("ana", "offline")
    made = clock.wait(60)
    assert shown(made) == [("queued", "holder_offline", "ana", None), ("assigned", "round_robin", None, "bea")]
    assert made[0].reason.en == "Ana has been offline for 1 min: back to the queue."
    assert made[0].reason.es == "Ana lleva 1 min sin conexión: vuelve a la cola."
    assert made[0].entry.at == T0 + timedelta(seconds=59 + 300 + 60)


@pytest.mark.parametrize(
    ("state", "shift", "policy", "after"),
    [
        ("away", None, {"taken_back": (AWAY,)}, 300),
        ("available", False, {"taken_back": (OFF_SHIFT,)}, 30),
        ("available", False, {"taken_back": (OFF_SHIFT,), "out_of_shift": True}, None),
        ("busy", None, {"taken_back": (OFFLINE, AWAY, OFF_SHIFT)}, None),
        ("away", None, {"taken_back": (OFFLINE,)}, None),
        ("offline", False, {"taken_back": (OFFLINE, AWAY, OFF_SHIFT)}, 30),
    ],
)
def test_each_way_of_being_gone_has_its_own_time(state, shift, policy, after):
    clock = Clock("ana", **policy)
    clock.opened("c")
    clock.status("ana", state, in_shift=shift)
    assert clock.wait((after or 10**6) - 1) == []
    assert [one.kind for one in clock.wait(1)] == ([] if after is None else ["queued"])


def test_a_break_of_another_name_is_the_same_absence():
    clock = Clock("ana", taken_back=(AWAY,))
    clock.opened("c")
    clock.status("ana", "away")
    assert clock.wait(200) == []
    clock.status("ana", "away")
    assert [one.reason.code for one in clock.wait(100)] == ["holder_away"]


def test_what_is_given_by_hand_to_somebody_gone_is_theirs_for_the_whole_time():
    clock = Clock("ana", "bea", taken_back=(OFFLINE,))
    clock.opened("old")
    clock.opened("new")
    clock.status("ana", "offline")
    clock.wait(50)
    clock(Assign("new", "agent:bea", "manual", set_assignee=True, assignee_id="ana"))
    assert [one.conversation_id for one in clock.wait(10)] == ["old", "old"]
    assert clock.wait(49) == []
    assert [one.conversation_id for one in clock.wait(1)] == ["new", "new"]


def test_who_lets_a_customer_wait_loses_it_to_somebody_else_who_gets_it_as_waiting_since_they_asked():
    clock = Clock("ana", "bea", "cid", taken_back=(UNANSWERED,))
    clock.opened("c")
    clock.waits("c")
    clock.wait(119)
    clock.answered("c")
    assert clock.wait(1000) == []
    asked = clock.at
    clock.waits("c")
    clock.wait(30)
    clock.status("bea", "busy")
    clock.status("cid", "busy")
    (queued,) = clock.wait(90)
    assert shown([queued]) == [("queued", "unanswered", "ana", None)]
    assert queued.reason.en == "Ana did not answer within 2 min: back to the queue."
    assert (queued.queued_at, queued.passed) == (asked, ("ana",))
    assert clock.wait(500) == [], "ana is there, and is not given it again"
    assert shown(clock.status("bea", "available")) == [("assigned", "round_robin", None, "bea")]
    clock.status("cid", "available")
    made = clock.wait(120)
    assert shown(made) == [("queued", "unanswered", "bea", None), ("assigned", "round_robin", None, "cid")]
    assert clock.wait(10**6) == [], "everybody has let it lie: it stays with the last"
    clock.answered("c")
    assert clock.pool.held["c"].passed == ()


def test_it_stays_with_the_only_one_who_works_on_it():
    clock = Clock("ana", taken_back=(TakeBack("unanswered", 0),))
    clock.opened("c")
    clock.waits("c")
    assert clock.wait(10**6) == []


def test_a_team_gets_it_once_and_then_each_of_the_team():
    team = frozenset({"t"})
    clock = Clock("ana", "bea", "cid", teams=[Team("t")], taken_back=(TakeBack("unanswered", 10, "team", "t"),))
    for one in ("bea", "cid"):
        clock.pool.roster.agents[one].team_ids = team
    clock.opened("c")
    clock.waits("c")
    made = clock.wait(1000)
    assert [(one.kind, one.team_id, one.assignee_id) for one in made] == [
        ("queued", "t", None),
        ("assigned", "t", "bea"),
        ("queued", "t", None),
        ("assigned", "t", "cid"),
    ]


def test_it_becomes_a_teams_and_more_urgent_where_the_policy_says_so():
    back = TakeBack("offline", 60, "team", "t", raise_priority=True)
    clock = Clock("ana", teams=[Team("t", "Soporte")], taken_back=(back,))
    clock.opened("c", rank=2)
    clock.status("ana", "offline")
    (queued,) = clock.wait(60)
    assert (queued.team_id, queued.rank, queued.reason.code) == ("t", 3, "holder_offline")
    assert queued.reason.es == "Ana lleva 1 min sin conexión: pasa al equipo Soporte."
    clock.pool.teams["t"].deleted = True
    clock.status("ana", "available")
    clock.opened("d")
    clock.status("ana", "offline")
    (queued,) = clock.wait(60)
    assert (queued.team_id, queued.reason.en) == (None, "Ana has been offline for 1 min: back to the queue.")


def test_a_policy_counts_at_once_for_what_there_is():
    clock = Clock("ana")
    clock.opened("c")
    clock.status("ana", "offline")
    clock.wait(600)
    clock(PolicyEdited(Policy(taken_back=(TakeBack("offline", 900),), version=2)))
    assert clock.wait(200) == []
    clock(PolicyEdited(Policy(taken_back=(OFFLINE,), version=3)))
    assert [one.reason.code for one in clock.wait(0)] == ["holder_offline"]


def test_since_when_customers_wait_is_forgotten_where_nobody_looks_at_it():
    clock = Clock("ana", taken_back=(UNANSWERED,))
    clock.opened("c")
    clock.waits("c")
    clock(PolicyEdited(Policy(version=2)))
    clock(PolicyEdited(Policy(taken_back=(UNANSWERED,), version=3)))
    assert clock.wait(10**6) == [], "somebody may have answered meanwhile"


class Leaving(RuleBasedStateMachine):
    """Whatever happens: nobody who has been gone for so long holds what they left, and it is taken from nobody before."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock("ana", "bea", "cid", taken_back=(OFFLINE, AWAY, UNANSWERED))
        self.gone = {}
        self.asked = {}
        self.since = {}

    def note(self, made):
        for one in made:
            before, code, at = one.from_assignee_id, one.reason.code, one.entry.at
            if code in ("holder_offline", "holder_away"):
                state, since = self.gone[before]
                limit = {"offline": OFFLINE, "away": AWAY}[state].after_seconds
                assert code == f"holder_{state}"
                held = self.since[one.conversation_id]
                assert (at - max(since, held)).total_seconds() == pytest.approx(limit), one
            if code == "unanswered":
                since = max(self.asked[one.conversation_id], self.since[one.conversation_id])
                assert (at - since).total_seconds() == pytest.approx(UNANSWERED.after_seconds), one
            if one.kind == "assigned":
                self.since[one.conversation_id] = at

    @rule(seconds=st.sampled_from([1, 20, 59, 60, 119, 300]))
    def time_passes(self, seconds):
        self.note(self.clock.wait(seconds))

    @rule(who=st.sampled_from(["ana", "bea", "cid"]), state=st.sampled_from(["available", "busy", "away", "offline"]))
    def status(self, who, state):
        if self.gone.get(who, ("", T0))[0] != state:
            self.gone[who] = state, self.clock.at
        self.note(self.clock.status(who, state))

    @rule()
    def opened(self):
        self.note(self.clock.opened(f"c{self.clock.number()}"))

    @rule(data=st.data(), act=st.sampled_from(["asks", "answer", "close", "give"]))
    def with_one(self, data, act):
        known = sorted(one for one, held in self.clock.pool.held.items() if held.state != "closed")
        if not known:
            return
        one = data.draw(st.sampled_from(known))
        if act == "asks":
            if one not in self.asked:
                self.asked[one] = self.clock.at
                self.note(self.clock.waits(one))
        elif act == "answer":
            self.asked.pop(one, None)
            self.note(self.clock.answered(one))
        elif act == "close":
            self.asked.pop(one, None)
            self.note(self.clock(Closed(one, self.clock.number())))
        else:
            who = data.draw(st.sampled_from(["ana", "bea", "cid"]))
            self.note(self.clock(Assign(one, "agent:boss", "manual", set_assignee=True, assignee_id=who)))

    @invariant()
    def nothing_lies_for_too_long(self):
        self.note(self.clock.wait(0))
        for one, held in self.clock.pool.held.items():
            if held.state != "assigned":
                continue
            since = self.since[one]
            state, gone = self.gone.get(held.assignee_id, ("available", T0))
            if state in ("offline", "away"):
                limit = {"offline": OFFLINE, "away": AWAY}[state].after_seconds
                assert (self.clock.at - max(gone, since)).total_seconds() < limit, held
            if one in self.asked and {*held.passed, held.assignee_id} != {"ana", "bea", "cid"}:
                assert (self.clock.at - max(self.asked[one], since)).total_seconds() < UNANSWERED.after_seconds, held


TestLeaving = Leaving.TestCase
TestLeaving.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# The service.


async def govern(service, world, boss, **changes):
    given = {"strategy": "round_robin", "default_capacity": 10, "busy_as_fallback": False} | changes
    return await service.http.put("/routing/policy", json=given, headers=world.as_(boss) | {"If-Match": "*"})


async def until_told(service, settled, one, code):
    """What was told of a conversation, once a decision with this reason was."""
    for _ in range(300):
        await settled()
        events = await told(service, one)
        if code in [event["reason"]["code"] for event in events]:
            return events
    raise AssertionError(events)


async def test_who_went_offline_loses_what_they_had_to_who_is_there(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana")
    await settled()
    back = {"cause": "offline", "after_seconds": 1, "raise_priority": True}
    answer = await govern(service, world, boss, taken_back=[back])
    assert answer.status_code == 200, answer.text
    assert answer.json()["taken_back"] == [back | {"to": "queue", "team_id": None}]
    one = await world.open()
    await settled()
    bea = await world.hire("Bea")
    await world.status(ana, "offline")
    events = await until_told(service, settled, one, "holder_offline")
    assert [(event["type"], event["assignee_id"]) for event in events] == [
        ("conversation_assigned", ana),
        ("conversation_queued", None),
        ("conversation_assigned", bea),
    ]
    assert (events[1]["priority"], events[1]["reason"]["en"]) == (
        "high",
        "Ana has been offline for 1 s: back to the queue.",
    )
    path = f"/conversations/{one}/assignment/why"
    why = await service.http.get(path, params={"version": 2, "language": "es"}, headers=world.as_(boss))
    assert why.json()["sentences"][0]["text"] == "Ana lleva 1 s sin conexión: vuelve a la cola."
    await assert_consistent(service)


async def test_who_does_not_answer_loses_it_and_is_told_why_it_does_not_come_back(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana, bea = await world.hire("Ana"), await world.hire("Bea", state="away")
    await settled()
    assert (await govern(service, world, boss, taken_back=[{"cause": "unanswered", "after_seconds": 1}])).is_success
    one, answered = await world.open(), await world.open()
    await settled()
    for asked in (one, answered):
        await say(world, asked, "incoming")
    await say(world, answered, "outgoing")
    events = await until_told(service, settled, one, "unanswered")
    assert [event["type"] for event in events] == ["conversation_assigned", "conversation_queued"]
    await settled()
    assert [event["type"] for event in await told(service, answered)] == ["conversation_assigned"]
    path = f"/conversations/{one}/assignment/why-not/{ana}"
    why = await service.http.get(path, params={"language": "en"}, headers=world.as_(boss))
    assert [s["text"] for s in why.json()["sentences"]] == ["Ana had it and did not answer in time."]
    await world.status(bea, "available")
    await settled()
    assert (await told(service, one))[-1]["assignee_id"] == bea
    await assert_consistent(service)


async def say(world, one, kind):
    """The customer writes, or somebody answers."""
    before = world.conversations[one]
    at = now()
    message = MessageSnapshot(
        id=new_id(),
        conversation_id=one,
        kind=kind,
        sequence=before.sequence + 1,
        text="x",
        author="x",
        author_name="x",
        status="received",
        occurred_at=at,
        created_at=at,
    )
    waits = (before.waiting_since or at) if kind == "incoming" else None
    after = before.model_copy(update={"sequence": before.sequence + 1, "waiting_since": waits})
    world.conversations[one] = after
    since = before.waiting_since if kind == "outgoing" else None
    event = conversation.MessageCreated(
        conversation=after, before=before.access, message=message, answered_since=since, human=True
    )
    await world.tell(event, one)


async def test_a_policy_that_contradicts_itself_is_refused_by_its_fields(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    for backs, place in (
        ([{"cause": "offline", "after_seconds": 1}, {"cause": "offline", "after_seconds": 2}], "/taken_back/1/cause"),
        ([{"cause": "away", "after_seconds": 1, "to": "team", "team_id": new_id()}], "/taken_back/0/team_id"),
        ([{"cause": "away", "after_seconds": 1, "to": "team"}], "/taken_back/0/team_id"),
        ([{"cause": "away", "after_seconds": 1, "team_id": new_id()}], "/taken_back/0/team_id"),
        ([{"cause": "away", "after_seconds": -1}], "/taken_back/0/after_seconds"),
        ([{"cause": "bored", "after_seconds": 1}], "/taken_back/0/cause"),
    ):
        answer = await govern(service, world, boss, taken_back=backs)
        assert answer.status_code == 422, answer.text
        assert place in [error["pointer"] for error in answer.json()["errors"]], answer.text
