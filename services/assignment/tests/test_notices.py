"""Who waits for an agent is told their place and how long it will take, in their language, and not too often."""

import json

import pytest

from relevo.assignment.domain.inputs import Closed, CustomerWaits, PolicyEdited
from relevo.assignment.domain.policy import Policy, WaitingNotice
from relevo.chassis.bus import until
from relevo.contracts.base import now
from relevo.contracts.snapshots import ContactSnapshot

from .journals import T0
from .test_assignment import assert_consistent
from .test_taken_back import Clock, govern

ES = "Eres el {{place}}.º en la cola; te atenderemos en unos {{minutes|pocos}} minutos."
EN = "You are number {{place}}; it will be about {{minutes|a few}} minutes."
NOTICE = WaitingNotice({"es": ES, "en": EN}, after_seconds=60, every_seconds=300, most=3)


class Desk(Clock):
    """Nobody is there at first. `told`: when the customers of which conversations were told."""

    def __init__(self, **more):
        super().__init__("ana", **({"waiting_notice": NOTICE} | more))
        self.told = []
        self.status("ana", "away")

    def __call__(self, given):
        made = super().__call__(given)
        self.told += [((self.at - T0).total_seconds(), one) for one in sorted(self.pool.to_tell)]
        self.pool.to_tell.clear()
        return made

    def asked(self, one, **more):
        return self.opened(one, customer_since=self.at, **more)


def test_who_waits_is_told_after_so_long_and_every_so_often_but_not_for_ever():
    clock = Desk()
    clock.asked("c")
    clock.wait(59)
    assert clock.told == []
    clock.wait(10_000)
    assert clock.told == [(60, "c"), (360, "c"), (660, "c")]


def test_who_is_told_once_is_told_once():
    clock = Desk(waiting_notice=WaitingNotice({"es": ES}))
    clock.asked("c")
    clock.wait(10_000)
    assert clock.told == [(60, "c")]


def test_who_has_an_agent_or_an_answer_or_never_asked_is_not_told():
    clock = Desk(default_capacity=1)
    clock.asked("a")
    clock.asked("b")
    clock.opened("c")
    clock.asked("d")
    clock.status("ana", "available")
    clock(CustomerWaits("b", None, clock.number()))
    clock(Closed("d", clock.number(), "snoozed"))
    clock.wait(1000)
    assert clock.told == []


def test_who_is_asked_for_by_an_offer_is_not_told_until_it_ended():
    clock = Desk(hand_over="offer", offer_seconds=100, most_unanswered=1)
    clock.asked("c")
    clock.status("ana", "available")
    clock.wait(99)
    assert clock.told == []
    clock.wait(5)
    assert clock.told == [(100, "c")]


def test_a_late_bell_tells_once_and_the_next_time_is_as_far_as_ever():
    clock = Desk()
    clock.asked("c")
    clock.timers = {due: at.replace(hour=2) for due, at in clock.timers.items()}
    clock.wait(3 * 3600)
    assert [seconds for seconds, _ in clock.told] == [7260, 7560, 7860]


def test_another_policy_counts_at_once():
    clock = Desk(waiting_notice=None)
    clock.asked("c")
    clock.wait(600)
    clock(PolicyEdited(Policy(waiting_notice=NOTICE, version=2)))
    clock.waits("c")
    clock.wait(60)
    assert clock.told == [(660, "c")]


@pytest.mark.parametrize(("language", "text"), [("es-CO", ES), ("en", EN), ("EN_us", EN), ("fr", ES), ("", ES)])
def test_the_text_is_in_the_customers_language(language, text):
    assert NOTICE.text(language) == text


async def test_customers_are_told_their_place(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    await settled()
    wrong = await govern(service, world, boss, waiting_notice={"texts": {"es": "{{hours}}"}})
    assert wrong.status_code == 422
    assert "hours" in wrong.text
    notice = {"texts": {"es": ES, "en": EN}, "after_seconds": 5}
    answer = await govern(service, world, boss, waiting_notice=notice)
    assert answer.status_code == 200, answer.text
    assert answer.json()["waiting_notice"] == notice | {"every_seconds": None, "most": 3}
    ones = [
        await world.open(waiting_since=now(), contact=ContactSnapshot(id=boss, language=language))
        for language in ("es", "en")
    ]
    silent = await world.open()

    async def both_told():
        await settled()
        return len(await service.admin.stored("CMD_CONVERSATION")) >= 2

    assert await until(both_told, 30)
    said = {
        (body := json.loads(raw))["conversation_id"]: body["text"]
        for _, _, raw in await service.admin.stored("CMD_CONVERSATION")
    }
    assert said == {
        ones[0]: "Eres el 1.º en la cola; te atenderemos en unos pocos minutos.",
        ones[1]: "You are number 2; it will be about a few minutes.",
    }
    assert silent not in said
    await assert_consistent(service)
