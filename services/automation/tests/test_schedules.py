"""Rules that come by the clock: when, about what, and only the rule whose time it is."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.automation.app import build
from relevo.automation.domain.schedules import Schedule, faults, next_after
from relevo.chassis.bus import until
from relevo.chassis.testing import running
from relevo.contracts.base import now
from relevo.contracts.conversation import ConversationReviewed
from relevo.contracts.identity import AccountChanged, AccountState
from relevo.contracts.permissions import Permission

from .samples import ACCOUNT, conversation
from .test_service import _key, _make, _manager

DAILY = {"cron": "0 9 * * *", "zone": "Europe/Madrid", "idle_minutes": 4320, "statuses": ["open"]}
QUIET = {
    "name": "Tres d\u00edas sin noticias",
    "trigger": "schedule",
    "schedule": DAILY,
    "conditions": {"field": "conversation.priority", "operator": "absent"},
    "actions": [{"type": "add_labels", "labels": ["dormida"]}],
}
ZONES = ("America/Bogota", "Europe/Madrid", "Asia/Kolkata", "America/Santiago", "Australia/Lord_Howe", "UTC")


@pytest.mark.parametrize(
    ("cron", "word"),
    [
        ("*/5 * * * *", "15 minutes"),
        ("0,10 3 * * 1", "15 minutes"),
        ("0 0 30 2 *", "day of month"),
        ("61 * * * *", "bad minute"),
        ("0 25 * * *", "bad hour"),
        ("0 9 * 13 *", "bad month"),
        ("0 9 * * 9", "day of week"),
        ("0 9 * * * *", "five fields"),
        ("@daily", "five fields"),
        ("ma\u00f1ana", "five fields"),
    ],
)
def test_what_is_no_schedule_is_told_with_the_mend(cron, word):
    ((field, es, en),) = faults(Schedule(cron=cron))
    assert field == "cron"
    assert word in en
    assert es
    assert [field for field, _, _ in faults(Schedule(cron="0 9 * * 1-5", zone="Europa/Madriz"))] == ["zone"]
    assert not list(faults(Schedule(cron="*/15 9-18 * * 1-5", zone="Europe/Madrid")))


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    days=st.sets(st.integers(0, 6), min_size=1),
    zone=st.sampled_from(ZONES),
    moment=st.timedeltas(timedelta(0), timedelta(days=365)).map(
        lambda passed: datetime(2026, 1, 1, tzinfo=UTC) + passed
    ),
)
def test_the_next_time_is_the_first_by_the_clock_on_the_wall(minute, hour, days, zone, moment):
    """Beside a walk over every minute; but for the hours that a change of clocks takes away, or gives twice."""
    cron = f"{minute} {hour} * * {','.join(map(str, sorted(days)))}"
    here = ZoneInfo(zone)
    found = next_after(Schedule(cron=cron), here, moment)
    assert found is not None
    walked = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while True:
        local = walked.astimezone(here)
        if (local.minute, local.hour) == (minute, hour) and local.isoweekday() % 7 in days:
            break
        walked += timedelta(minutes=1)
    if found != walked:
        # One of both lies within a day of a change of clocks.
        near = min(found, walked).astimezone(here)
        offsets = {(near + timedelta(hours=shift)).astimezone(here).utcoffset() for shift in range(-30, 31)}
        assert len(offsets) > 1, (found, walked)
    assert found > moment


async def _timer(service):
    with psycopg.connect(service.dsn) as connection:
        rows = connection.execute("select key, due_at from timers where kind = 'rule_schedule'").fetchall()
    return dict(rows)


async def _ring(service):
    """Its time has come."""
    with psycopg.connect(service.dsn) as connection:
        connection.execute("update timers set due_at = now() - interval '3 days' where kind = 'rule_schedule'")


async def _asked(service):
    stored = await service.admin.stored("CMD_CONVERSATION")
    return [(h, json.loads(body)) for _, h, body in stored if h["ce-type"].endswith(".review_conversations.v1")]


async def test_it_comes_at_its_time_and_asks_for_what_it_is_about(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers, **QUIET, inbox_ids=[])
        next_at = datetime.fromisoformat(rule["next_at"])
        madrid = next_at.astimezone(ZoneInfo("Europe/Madrid"))
        assert (madrid.hour, madrid.minute, now() < next_at <= now() + timedelta(days=1)) == (9, 0, True)
        assert await _timer(service) == {rule["id"]: next_at}

        await _ring(service)

        async def asked() -> bool:
            return bool(await _asked(service))

        assert await until(asked, 30)
        ((sent, body),) = await _asked(service)
        assert sent["relevo-actor"] == f"rule:{rule['id']}"
        due_at = datetime.fromisoformat(body.pop("due_at"))
        assert abs(due_at - now()) < timedelta(minutes=1), "counted back from when it really comes"
        assert body == {
            "rule_id": rule["id"],
            "statuses": ["open"],
            "inbox_ids": [],
            "team_id": None,
            "idle_minutes": 4320,
            "waiting_minutes": 0,
        }
        assert await _timer(service) == {rule["id"]: next_at}, "three missed times are one, and the next is the next"

        off = await service.http.patch(
            f"/rules/{rule['id']}", json={"enabled": False}, headers=headers | {"If-Match": '"1"'}
        )
        assert (off.json()["next_at"], await _timer(service)) == (None, {})
        await service.http.patch(f"/rules/{rule['id']}", json={"enabled": True}, headers=headers | {"If-Match": '"2"'})
        assert await _timer(service) == {rule["id"]: next_at}
        gone = await service.http.delete(f"/rules/{rule['id']}", headers=headers | {"If-Match": '"3"'})
        assert (gone.status_code, await _timer(service)) == (204, {})
        assert len(await _asked(service)) == 1


async def test_only_the_rule_whose_time_it_is_is_asked(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        mine = await _make(service, headers, **QUIET)
        other = await _make(service, headers, **QUIET | {"name": "Otra"})
        await _make(service, headers, conditions={"all": []})
        calm = conversation()
        for state in (calm, conversation(priority="high")):
            told = ConversationReviewed(rule_id=mine["id"], due_at=now(), conversation=state)
            await service.admin.publish(told, account=ACCOUNT, entity=state.id)
        await service.settle()
        done = (await service.http.get("/rule-executions", headers=headers)).json()["items"]
        assert [(one["rule_id"], one["conversation_id"], one["outcome"]) for one in done] == [
            (mine["id"], calm.id, "ordered")
        ]
        ((sent, body),) = [
            (h, json.loads(body))
            for _, h, body in await service.admin.stored("CMD_CONVERSATION")
            if h["ce-type"].endswith(".change_labels.v1")
        ]
        assert (body["conversation_id"], sent["relevo-depth"]) == (calm.id, "1")
        seer = await _key(service, Permission.AUTOMATIONS_MANAGE, Permission.CONVERSATIONS_READ)
        for rule, why in ((mine, [200, "fired"]), (other, [404])):
            path = f"/rules/{rule['id']}/why"
            told = await service.http.get(path, params={"conversation_id": calm.id}, headers=seer)
            assert [told.status_code, *(one["why"] for one in told.json().get("items", []))] == why


async def test_without_a_zone_the_account_s_counts(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        account = AccountState(id=ACCOUNT, name="Kolkata", slug="kolkata", time_zone="Asia/Kolkata")
        await service.admin.publish(AccountChanged(account=account), account=ACCOUNT, entity=ACCOUNT, sequence=1)
        await service.settle()
        rule = await _make(service, headers, **QUIET | {"schedule": {"cron": "15 8 * * *"}})
        there = datetime.fromisoformat(rule["next_at"]).astimezone(ZoneInfo("Asia/Kolkata"))
        assert (there.hour, there.minute) == (8, 15)
        listed = (await service.http.get("/rules", headers=headers)).json()["items"]
        assert [one["next_at"] for one in listed] == [rule["next_at"]]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"schedule": None}, "/schedule"),
        ({"trigger": "message_received"}, "/schedule"),
        ({"schedule": {"cron": "* * * * *"}}, "/schedule/cron"),
        ({"schedule": {"cron": "0 9 * * *", "zone": "Nowhere"}}, "/schedule/zone"),
        ({"schedule": {"cron": "0 9 * * *", "statuses": ["resolved"]}}, "/schedule/statuses/0"),
        ({"conditions": {"field": "message.text", "operator": "present"}}, "/conditions/field"),
    ],
)
async def test_what_cannot_be_is_refused_at_its_place(servers, change, pointer) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        answer = await service.http.post("/rules", json=QUIET | change, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert await _timer(service) == {}


async def test_a_rule_becomes_one_that_comes_by_the_clock_and_back(servers) -> None:
    async with running(build, servers) as service:
        headers = await _manager(service)
        rule = await _make(service, headers, conditions={"all": []}, actions=QUIET["actions"])
        path = f"/rules/{rule['id']}"
        halfway = await service.http.patch(path, json={"trigger": "schedule"}, headers=headers | {"If-Match": '"1"'})
        assert halfway.status_code == 422
        body = {"trigger": "schedule", "schedule": DAILY}
        made = await service.http.patch(path, json=body, headers=headers | {"If-Match": '"1"'})
        assert made.status_code == 200, made.text
        assert made.json()["next_at"]
        renamed = await service.http.patch(path, json={"name": "X"}, headers=headers | {"If-Match": '"2"'})
        assert renamed.json()["schedule"] == made.json()["schedule"]
        back = await service.http.patch(
            path, json={"trigger": "message_received"}, headers=headers | {"If-Match": '"3"'}
        )
        assert (back.json()["schedule"], await _timer(service)) == (None, {})
        trial = await service.http.post("/rules/dry-run", json={"draft": QUIET}, headers=headers)
        assert trial.status_code == 422
