"""Capacity in units: what channels weigh, what waits for its customer, and that a conversation fits as a whole or not."""

import json
from datetime import timedelta
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from relevo.assignment.domain import policy as policies
from relevo.assignment.domain import units
from relevo.assignment.domain.explaining import Record, why_not
from relevo.assignment.domain.inputs import Assign, CapacitySet, Closed, Opened, PolicyEdited, Reopened
from relevo.assignment.domain.policy import Lighter, Policy
from relevo.assignment.simulating import draft

from .journals import T0
from .test_assignment import assert_consistent
from .test_taken_back import Clock, govern, say

HALF = {"email": 50}


class Day(Clock):
    """A clock whose conversations have channels."""

    def came(self, one, channel="email", **more):
        return self(Opened(one, channel, channel, self.at, self.number(), **more))

    def may(self, who, capacity):
        return self(CapacitySet(who, capacity))

    def used(self, who):
        return self.pool.roster.agents[who].used


@given(st.integers(1, units.HEAVIEST))
def test_units_are_read_and_shown_without_losing_a_hundredth(weight):
    assert units.hundredths(units.told(weight)) == weight
    es, en = units.said(weight)
    assert es.replace(",", ".") == en
    assert Decimal(en) * 100 == weight


@pytest.mark.parametrize("value", [0.005, "x", True, None, float("nan"), float("inf")])
def test_what_is_no_number_of_hundredths_is_refused(value):
    with pytest.raises(ValueError, match="at most two decimals"):
        units.hundredths(value)


def test_a_policy_is_written_in_units_and_read_back_exactly():
    one = Policy(channel_weights={"email": 33, "voice": 250}, lighter=Lighter(600, 40), version=3)
    stored = json.loads(json.dumps(policies.written(one)))
    assert stored["channel_weights"] == {"email": 0.33, "voice": 2.5}
    assert stored["lighter"] == {"after_seconds": 600, "share": 0.4}
    assert policies.read(stored) == one
    assert policies.read({"default_capacity": 10}) == Policy(), "what was kept before there were units"


def test_light_ones_share_a_unit_and_the_last_unit_is_given_only_to_what_fits_into_it():
    day = Day("ana", channel_weights=HALF)
    day.may("ana", 2)
    assert [day.came(f"m{n}")[0].kind for n in range(3)] == ["assigned"] * 3
    (chat,) = day.came("chat", "web")
    assert (chat.kind, chat.reason.code) == ("queued", "all_at_capacity"), (
        "half a unit is left, and it takes a whole one"
    )
    (mail,) = day.came("m3")
    assert (mail.kind, day.used("ana")) == ("assigned", 200)
    (full,) = day.came("m4")
    assert full.reason.en == "Waiting: it takes 0.5 units, and nobody has room (1 excluded: 1 at capacity)."
    assert full.reason.es.startswith("En espera: ocupa 0,5 unidades, y a nadie le caben")
    day(Closed("m0", day.number()))
    assert day.holder("m4") == "ana", "the chat has waited longer, and does not fit"
    day(Closed("m1", day.number()))
    assert day.holder("chat") is None
    day(Closed("m2", day.number()))
    assert (day.holder("chat"), day.used("ana")) == ("ana", 200)


def test_shares_of_capacity_are_of_units():
    day = Day("ana", "bea", channel_weights=HALF, strategy="least_loaded", default_capacity=4)
    for n in range(2):
        day.came(f"c{n}", "web")
    assert {day.holder("c0"), day.holder("c1")} == {"ana", "bea"}
    day.came("m0")
    day(Closed("c1", day.number()))
    second = day.came("m1")[0]
    assert second.reason.en == "Least loaded: Bea had 0 of 4 units, the least of 2 available agents."
    assert day.came("m2")[0].reason.en.startswith("Least loaded: Bea had 0.5 of 4 units")


def test_why_not_is_said_in_units_where_conversations_weigh():
    day = Day("ana", channel_weights=HALF)
    day.may("ana", 1)
    day.came("m0")
    (waits,) = day.came("chat", "web")
    held, agent = day.pool.held["chat"], day.pool.roster.agents["ana"]
    record = Record("queued", "automatic", waits.reason)
    (why,) = why_not(agent, held.key, day.pool.policy, record, when="now")
    assert why.en == "Ana has no room for it: 0.5 of 1 units, and it takes 1."
    assert why.es == "Ana no tiene hueco para ella: 0,5 de 1 unidades, y ocupa 1."


def test_what_waits_for_its_customer_takes_less_in_its_time_and_all_of_it_when_they_write():
    day = Day("ana", lighter=Lighter(600, 40), default_capacity=1)
    day.opened("c", customer_since=T0)
    day.opened("d", customer_since=T0)
    day.answered("c")
    assert day.wait(599) == []
    assert day.used("ana") == 100
    assert day.wait(1) == [], "0.4 and 1 are more than 1"
    assert day.used("ana") == 40
    day.may("ana", 2)
    assert (day.holder("d"), day.used("ana")) == ("ana", 140)
    day.opened("e", customer_since=day.at)
    assert day.holder("e") is None
    day.answered("d")
    (given_,) = day.wait(600)
    assert (given_.conversation_id, day.used("ana")) == ("e", 180)
    day.waits("c")
    assert day.used("ana") == 240, (
        "a customer who writes is not sent away: it is more than she may, and nothing more comes"
    )
    day.opened("f", customer_since=day.at)
    day(Closed("e", day.number()))
    assert (day.used("ana"), day.holder("f")) == (140, None)


def test_who_takes_it_over_has_all_of_it_until_its_time():
    day = Day("ana", "bea", lighter=Lighter(600, 0))
    day.opened("c", customer_since=T0)
    day.answered("c")
    day.wait(700)
    assert day.used("ana") == 0
    day(Assign("c", "agent:bea", "manual", set_assignee=True, assignee_id="bea"))
    assert (day.used("ana"), day.used("bea")) == (0, 100)
    day.wait(599)
    assert day.used("bea") == 100
    day.wait(1)
    assert day.used("bea") == 0


def test_what_was_begun_by_us_waits_for_its_customer_and_what_is_opened_again_for_people():
    day = Day("ana", lighter=Lighter(60, 0))
    day.opened("ours")
    day.wait(60)
    assert day.used("ana") == 0
    day(Closed("ours", day.number()))
    day(Reopened("ours", "i", "web", day.at, day.number()))
    day.wait(3600)
    assert day.used("ana") == 100


def test_another_policy_weighs_what_is_held_already():
    day = Day("ana", lighter=Lighter(600, 40))
    day.opened("c", customer_since=T0)
    day.came("m", customer_since=T0)
    day.answered("c")
    day.wait(300)
    policy = day.pool.policy
    day(PolicyEdited(Policy(lighter=Lighter(300, 50), channel_weights={"email": 25}, version=2)))
    assert day.used("ana") == 75
    day(PolicyEdited(Policy(lighter=Lighter(400, 50), version=3)))
    assert day.used("ana") == 200
    day.wait(100)
    assert day.used("ana") == 150
    day(PolicyEdited(Policy(version=4)))
    assert day.used("ana") == 200
    day(PolicyEdited(policy))
    day.wait(10**6)
    assert day.used("ana") == 200, "nobody looked at what customers waited for meanwhile"


def test_a_draft_names_weights_in_units_and_can_be_without_lighter_ones():
    policy = Policy(channel_weights=HALF, lighter=Lighter(60, 0))
    assert draft.read("{}", policy, {}).policy == policy
    named = draft.read('{"channel_weights": {"email": 0.25}, "lighter": null}', policy, {}).policy
    assert (named.channel_weights, named.lighter) == ({"email": 25}, None)
    other = draft.read('{"lighter": {"after_seconds": 5, "share": 0.5}}', policy, {}).policy
    assert other.lighter == Lighter(5, 50)


# The service.


async def load_of(service, world, boss, who):
    items = (await service.http.get("/routing/agents", headers=world.as_(boss))).json()["items"]
    found = next(one for one in items if one["agent_id"] == who)
    return found["load"], found["used"], found["capacity"]


async def test_the_load_is_in_units_everywhere_and_lightens_by_itself(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana")
    await settled()
    more = {"channel_weights": {"email": 0.5}, "lighter": {"after_seconds": 1, "share": 0.25}}
    answer = await govern(service, world, boss, default_capacity=2, **more)
    assert answer.status_code == 200, answer.text
    shown = (await service.http.get("/routing/policy", headers=world.as_(boss))).json()
    assert {name: shown[name] for name in more} == more
    mails = [await world.open(channel="email") for _ in range(3)]
    await settled()
    assert await load_of(service, world, boss, ana) == (3, 1.5, 2)
    chat = await world.open(waiting_since=T0)
    await settled()
    why = await service.http.get(
        f"/conversations/{chat}/assignment/why-not/{ana}", params={"language": "en"}, headers=world.as_(boss)
    )
    assert why.json()["sentences"][0]["text"] == "Ana has no room for it: 1.5 of 2 units, and it takes 1."
    for one in mails:
        await say(world, one, "incoming")
        await say(world, one, "outgoing")
    for _ in range(300):
        await settled()
        held = await service.http.get(f"/conversations/{chat}/assignment", headers=world.as_(boss))
        if held.json()["assignee_id"] == ana:
            break
    load, used, _ = await load_of(service, world, boss, ana)
    assert (load, used) in {(4, 1.39), (4, 1.76)}, "each of the mails takes 0.125 in its time, rounded up"
    found = await service.http.get(f"/conversations/{chat}/assignment/candidates", headers=world.as_(boss))
    assert ana in {one["agent_id"] for one in found.json()["items"]}
    await assert_consistent(service)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"channel_weights": {"email": 0}}, "/channel_weights/email"),
        ({"channel_weights": {"email": 0.125}}, "/channel_weights/email"),
        ({"channel_weights": {"email": 101}}, "/channel_weights/email"),
        ({"lighter": {"after_seconds": 1, "share": 1}}, "/lighter/share"),
        ({"lighter": {"after_seconds": -1, "share": 0.5}}, "/lighter/after_seconds"),
    ],
)
async def test_weights_that_cannot_be_are_refused_by_their_fields(service, world, settled, more, place):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    answer = await govern(service, world, boss, **more)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [place], answer.text


def test_a_moment_is_no_longer_than_said():
    day = Day("ana", lighter=Lighter(60, 40))
    day.opened("c", customer_since=T0)
    day.answered("c")
    assert day.timers
    day.wait(60)
    assert (day.timers, day.at) == ({}, T0 + timedelta(seconds=60)), "it rings once"
