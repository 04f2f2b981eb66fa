"""Waits of rules: what stands behind one is done later, once, unless something comes first."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.automation.app import build
from relevo.automation.domain.actions import Pause, Wait
from relevo.automation.domain.waits import moot_by, over_at
from relevo.chassis.bus import until
from relevo.chassis.testing import admin_of, running
from relevo.contracts.base import now
from relevo.contracts.conversation import AssigneeChanged, ConversationDeleted, ConversationResolved
from relevo.kernel.business_time import Calendar, Interval

from .samples import ACCOUNT, TEAM, conversation, said
from .test_service import _make, _manager

OFFICE = Calendar("Europe/Madrid", tuple((Interval(540, 1080),) if day < 5 else () for day in range(7)))
HURRY = [
    {"type": "add_labels", "labels": ["esperando"]},
    {"type": "wait", "minutes": 30, "unless": "agent_answers"},
    {"type": "assign_team", "team_id": TEAM},
]


async def _ordered(service) -> list[str]:
    found = []
    for stream in ("CMD_CONVERSATION", "CMD_ASSIGNMENT"):
        found += [subject.rpartition(".")[2] for subject, _, _ in await service.admin.stored(stream)]
    return found


async def _say(service, data, at, *, actor="contact:c"):
    sent = await service.admin.publish(data, account=ACCOUNT, entity=data.conversation.id, actor=actor, time=at)
    await service.settle()
    return sent


async def _outcomes(service, headers) -> list[str]:
    items = (await service.http.get("/rule-executions", headers=headers)).json()["items"]
    return [item["outcome"] for item in reversed(items)]


async def test_what_stands_behind_a_wait_is_done_when_it_is_over(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers, conditions={"all": []}, actions=HURRY)
        early, soon = said("hola"), said("hola")
        cause = await _say(service, soon, now() - timedelta(minutes=30) + timedelta(seconds=2))

        async def assigned() -> bool:
            return "assign" in await _ordered(service)

        assert await _outcomes(service, headers) in (["waiting"], ["ordered"])
        assert await until(assigned, 30)
        assert await _outcomes(service, headers) == ["ordered"]
        ((_, sent, body),) = await service.admin.stored("CMD_ASSIGNMENT")
        assert (sent["relevo-actor"], sent["relevo-causation-id"]) == (f"rule:{rule['id']}", cause.id)
        assert (json.loads(body)["team_id"], sent["relevo-depth"]) == (TEAM, "1")
        assert len(await service.admin.stored("EVT_AUTOMATION")) == 1, "told once, at its beginning"

        # Half an hour from now nothing is done yet; who waits is not begun twice; a rule that is off does not go on.
        await _say(service, early, now())
        await _say(service, said("sigo aquí", id=early.conversation.id), now())
        assert await _outcomes(service, headers) == ["ordered", "waiting", "already_waiting"]
        assert (await _ordered(service)).count("assign") == 1


@pytest.mark.parametrize(
    ("unless", "answer", "moot"),
    [
        ("agent_answers", "agent", True),
        ("customer_answers", "agent", False),
        ("customer_answers", "customer", True),
        ("anyone_answers", "customer", True),
        ("agent_answers", "robot", False),
        ("agent_answers", "resolved", True),
        ("nothing", "resolved", False),
        ("assigned", "assigned", True),
        ("nothing", "deleted", True),
    ],
)
def test_what_comes_first_makes_a_wait_moot(unless, answer, moot) -> None:
    data = {
        "agent": said("Hola", kind="outgoing"),
        "robot": said("Hola", kind="outgoing", human=False),
        "customer": said("Hola"),
        "resolved": ConversationResolved(conversation=conversation(status="resolved")),
        "assigned": AssigneeChanged(conversation=conversation(assignee_id="a")),
        "deleted": ConversationDeleted(conversation=conversation(), reason="x"),
    }[answer]
    assert (unless in moot_by(data)) is moot


async def test_an_answer_ends_a_wait_also_in_the_same_batch_and_while_the_service_was_down(servers) -> None:
    async with running(build, servers) as first:
        headers = await _manager(first)
        await _make(first, headers, conditions={"all": []}, actions=HURRY)
        waiting = said("hola")
        soon = now() - timedelta(minutes=30) + timedelta(seconds=3)
        await _say(first, waiting, soon)
        assert await _outcomes(first, headers) == ["waiting"]
    # The answer, and a whole other exchange, come while it is down; it comes back after both were due.
    other = said("buenas")
    async with admin_of(first.bus) as admin:
        for data, actor in (
            (said("Dígame", kind="outgoing", id=waiting.conversation.id), "agent:a"),
            (other, "contact:c"),
            (said("Dígame", kind="outgoing", id=other.conversation.id), "agent:a"),
        ):
            await admin.publish(data, account=ACCOUNT, entity=data.conversation.id, actor=actor, time=soon)

    async def over() -> bool:
        return now() > soon + timedelta(minutes=30)

    assert await until(over, 30)
    async with running(build, servers, bus=first.bus, dsn=first.dsn) as service:
        await service.settle()

        assert await _outcomes(service, headers) == ["moot", "moot"]
        assert await _ordered(service) == ["change_labels", "change_labels"]


async def test_a_rule_that_is_switched_off_does_not_go_on(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers, conditions={"all": []}, actions=HURRY)
        await _say(service, said("hola"), now() - timedelta(minutes=30) + timedelta(seconds=3))
        path = f"/rules/{rule['id']}"
        await service.http.patch(path, json={"enabled": False}, headers={**headers, "If-Match": '"1"'})

        async def over() -> bool:
            return await _outcomes(service, headers) == ["moot"]

        assert await until(over, 30)
        assert "assign" not in await _ordered(service)


@given(st.integers(1, 10_000), st.integers(0, 14 * 24 * 60))
def test_business_minutes_count_only_while_it_is_open(minutes: int, later: int) -> None:
    start = datetime(2026, 3, 23, tzinfo=UTC) + timedelta(minutes=later)
    wait = Wait(type="wait", minutes=minutes, business_hours=True)
    over = over_at(Pause(0, wait), start, OFFICE)
    assert over >= start + timedelta(minutes=minutes)
    counted = sum(_open(start + timedelta(minutes=at)) for at in range(int((over - start).total_seconds() // 60)))
    assert counted == minutes
    assert over_at(Pause(0, wait), start, None) == start + timedelta(minutes=minutes)


def _open(at: datetime) -> bool:
    local = at.astimezone(ZoneInfo("Europe/Madrid"))
    return local.weekday() < 5 and 9 <= local.hour < 18


async def test_a_trigger_of_no_conversation_takes_no_action_on_one(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        body = {"name": "r", "trigger": "contact_updated", "actions": [{"type": "resolve"}]}
        refused = await service.http.post("/rules", json=body, headers=headers)
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/actions/0/type"]
        mail = {"type": "email_team", "team_id": TEAM, "text": "Mirad"}
        made = await service.http.post("/rules", json={**body, "actions": [mail]}, headers=headers)
        assert made.status_code == 201, made.text
