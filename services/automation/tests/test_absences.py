"""Rules that come when nobody is available: once while it is so, about the conversations of that team."""

import json
from datetime import datetime, timedelta

import pytest

from relevo.automation.app import build
from relevo.chassis.bus import until
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ConversationReviewed
from relevo.contracts.identity import TeamChanged
from relevo.contracts.permissions import Permission

from .samples import conversation
from .test_alerts import Floor
from .test_service import _key

ALONE = {
    "name": "No queda nadie",
    "trigger": "nobody_available",
    "actions": [{"type": "send_message", "text": "Ahora mismo no hay nadie; te respondemos en cuanto vuelva alguien."}],
}


async def _found(service):
    floor = Floor(service)
    await floor.found()
    return floor, await _key(service, Permission.AUTOMATIONS_MANAGE, account=floor.org.account)


async def _make(service, headers, absence, **more):
    answer = await service.http.post("/rules", json=ALONE | {"absence": absence} | more, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _asked(service, count):
    async def found():
        stored = await service.admin.stored("CMD_CONVERSATION")
        return [json.loads(body) for _, h, body in stored if h["ce-type"].endswith(".review_conversations.v1")]

    async def there() -> bool:
        return len(await found()) >= count

    await service.settle()
    assert await until(there, 30)
    assert len(await found()) == count
    return await found()


async def test_it_comes_once_until_somebody_was_there_again(servers) -> None:
    async with running(build, servers) as service:
        floor, headers = await _found(service)
        await floor.is_(floor.eva, "available", 60)
        await floor.is_(floor.leo, "available", 60)
        team = {"team_id": floor.team.id, "minutes": 5, "waiting_minutes": 2}
        rule = await _make(service, headers, team)
        await floor.is_(floor.eva, "away", 30)
        assert await _asked(service, 0) == []
        await floor.is_(floor.leo, "offline", 6)
        (asked,) = await _asked(service, 1)
        assert abs(datetime.fromisoformat(asked.pop("due_at")) - now()) < timedelta(minutes=1)
        assert asked == {
            "rule_id": rule["id"],
            "statuses": [],
            "inbox_ids": [],
            "team_id": floor.team.id,
            "idle_minutes": 0,
            "waiting_minutes": 2,
        }
        # Another status of those who are not there begins nothing anew; somebody who was there does.
        await floor.is_(floor.eva, "busy", 5)
        await _asked(service, 1)
        await floor.is_(floor.leo, "available", 4)
        await floor.is_(floor.leo, "away", 3)
        await _asked(service, 1)
        await floor.is_(floor.leo, "available", 2.5)
        await floor.is_(floor.leo, "away", 0)
        await _asked(service, 1)
        changed = await service.http.patch(
            f"/rules/{rule['id']}",
            json={"absence": team | {"minutes": 0}},
            headers=headers | {"If-Match": '"1"'},
        )
        assert changed.status_code == 200, changed.text
        await _asked(service, 2)


async def test_who_leaves_the_team_begins_no_other_absence(servers) -> None:
    async with running(build, servers) as service:
        floor, headers = await _found(service)
        for who, ago in ((floor.eva, 30), (floor.leo, 10)):
            await floor.is_(who, "available", 60)
            await floor.is_(who, "away", ago)
        await _make(service, headers, {"team_id": floor.team.id})
        await _asked(service, 1)
        alone = floor.team.model_copy(update={"member_ids": (floor.eva,)})
        await service.admin.publish(TeamChanged(team=alone), account=floor.org.account, entity=alone.id, sequence=2)
        await service.settle()
        await _asked(service, 1)


async def test_what_is_so_when_the_rule_is_made_counts_and_what_ends_in_time_does_not(servers) -> None:
    async with running(build, servers) as service:
        floor, headers = await _found(service)
        for who in (floor.boss, floor.eva, floor.leo):
            await floor.is_(who, "away", 30)
        everybody = await _make(service, headers, {"minutes": 0, "statuses": ["open"]})
        (asked,) = await _asked(service, 1)
        assert (asked["rule_id"], asked["team_id"], asked["statuses"]) == (everybody["id"], None, ["open"])
        soon = await _make(service, headers, {"minutes": 31})
        await floor.is_(floor.boss, "available", 0)
        off = await service.http.patch(
            f"/rules/{soon['id']}", json={"enabled": False}, headers=headers | {"If-Match": '"1"'}
        )
        assert off.status_code == 200
        await _asked(service, 1)


async def test_its_conversations_are_judged_like_any_event(servers) -> None:
    async with running(build, servers) as service:
        floor, headers = await _found(service)
        calm = {"field": "conversation.waiting_since", "operator": "present"}
        rule = await _make(service, headers, {"team_id": floor.team.id}, conditions=calm)
        waits, rests = conversation(waiting_since=now()), conversation()
        for state in (waits, rests):
            told = ConversationReviewed(rule_id=rule["id"], due_at=now(), conversation=state)
            await service.admin.publish(told, account=floor.org.account, entity=state.id)
        await service.settle()
        done = (await service.http.get("/rule-executions", headers=headers)).json()["items"]
        assert [(one["rule_id"], one["conversation_id"], one["outcome"]) for one in done] == [
            (rule["id"], waits.id, "ordered")
        ]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({}, "/absence"),
        ({"absence": {"team_id": new_id()}}, "/absence/team_id"),
        ({"absence": {"minutes": -1}}, "/absence/minutes"),
        ({"absence": {}, "schedule": {"cron": "0 9 * * *"}}, "/schedule"),
        ({"absence": {}, "trigger": "message_received"}, "/absence"),
    ],
)
async def test_what_cannot_be_is_refused_at_its_place(servers, change, pointer) -> None:
    async with running(build, servers) as service:
        _, headers = await _found(service)
        answer = await service.http.post("/rules", json=ALONE | change, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
