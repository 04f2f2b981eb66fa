"""Supervisors are told of statuses as they asked: each kind once, in the list, to webhooks, by whatever they chose."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.automation.app import build
from relevo.automation.domain.alerts import Alert, Status, Telling, after, due, holds_since
from relevo.chassis.bus import until
from relevo.chassis.testing import Organisation, running
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import TeamChanged, TeamState
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import AgentStatus, StatusChanged

from .samples import NOON
from .test_service import _key

MINUTE = timedelta(minutes=1)
STATES = ("available", "busy", "away", "offline")


def alert(kind="status", **more) -> Alert:
    fields = {
        "id": "al",
        "account_id": "ac",
        "subscriber_id": "s",
        "kind": kind,
        "agent_id": None,
        "team_id": "t",
        "states": ("away",) if kind == "status" else (),
        "minutes": 5,
        "quiet_minutes": 30,
        "enabled": True,
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Alert(**{**fields, **more})


def status(agent="a", state="away", since=NOON, in_shift=None, sequence=1) -> Status:
    return Status(agent, "ac", state, since, None, in_shift, sequence)


def test_a_status_is_of_each_agent_and_a_shift_counts_only_who_is_there() -> None:
    statuses = {"a": status("a"), "b": status("b", "busy"), "c": status("c", "available", in_shift=False)}
    statuses["d"] = status("d", "offline", in_shift=False)
    assert holds_since(alert(), statuses, "abcd") == {"a": NOON}
    assert holds_since(alert(agent_id="b", team_id=None), statuses, ()) == {}
    assert holds_since(alert("outside_shift"), statuses, "abcd") == {"c": NOON}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(STATES), st.integers(1, 9)), max_size=20))
def test_nobody_is_available_since_the_last_one_was(changes) -> None:
    """Whatever they were in between: busy and away are one time in which nobody is available."""
    statuses: dict[str, Status] = {}
    at, last = NOON, {"a": NOON, "b": NOON}
    state = {"a": "offline", "b": "offline"}
    for number, (agent, new, minutes) in enumerate(changes, 1):
        at += minutes * MINUTE
        statuses[agent] = after(statuses.get(agent), status(agent, new, at, sequence=number))
        if state[agent] == "available" and new != "available":
            last[agent] = at
        elif (
            agent in statuses
            and state[agent] != "available"
            and len([c for c in changes[:number] if c[0] == agent]) == 1
        ):
            last[agent] = at if new != "available" else last[agent]
        state[agent] = new
    found = holds_since(alert("nobody_available"), statuses, "ab")
    assert found == ({} if "available" in state.values() else {"t": max(last.values())})


def test_a_team_of_nobody_tells_nothing() -> None:
    assert holds_since(alert("nobody_available"), {}, ()) == {}


def test_it_is_told_once_while_it_stays_so_and_not_again_too_soon() -> None:
    assert due(alert(), NOON, None) == NOON + 5 * MINUTE
    assert due(alert(), NOON, Telling(NOON, NOON + 5 * MINUTE)) is None
    again = NOON + 10 * MINUTE
    assert due(alert(), again, Telling(NOON, NOON + 5 * MINUTE)) == NOON + 35 * MINUTE
    assert due(alert(), NOON + 60 * MINUTE, Telling(NOON, NOON + 5 * MINUTE)) == NOON + 65 * MINUTE


class Floor:
    """A team, its supervisor, and statuses that are told one after another."""

    def __init__(self, service) -> None:
        self.service = service
        self.org = Organisation(service.admin)
        self.numbers: dict[str, int] = {}
        self.states: dict[str, str] = {}

    async def found(self) -> None:
        await self.org.found()
        self.boss = await self.org.hire("Berta", "administrator")
        self.eva, self.leo = await self.org.hire("Eva"), await self.org.hire("Leo")
        self.team = TeamState(id=new_id(), account_id=self.org.account, name="Soporte", member_ids=(self.eva, self.leo))
        await self.org.tell(TeamChanged(team=self.team), self.team.id)
        await self.service.settle()
        self.who = self.org.as_(self.boss)

    async def is_(self, agent: str, state: str, ago: float, **more) -> None:
        self.numbers[agent] = self.numbers.get(agent, 0) + 1
        given = AgentStatus(agent_id=agent, state=state, since=now() - ago * MINUTE, cause="manual", **more)
        before = self.states.get(agent, "offline")
        self.states[agent] = state
        event = StatusChanged(status=given, previous=before, previous_since=now() - timedelta(days=1))
        await self.service.admin.publish(event, account=self.org.account, entity=agent, sequence=self.numbers[agent])
        await self.service.settle()

    async def wants(self, **given) -> dict:
        answer = await self.service.http.post("/alerts", json=given, headers=self.who)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def told(self, count: int) -> list[tuple[str, str, dict]]:
        """(recipient, template, data) of everybody who is told, once there are so many."""

        async def commands() -> list[tuple[str, str, dict]]:
            await self.service.settle()
            found = [json.loads(body) for _, _, body in await self.service.admin.stored("CMD_NOTIFICATION")]
            return [(one["agent_id"], one["template"], one["data"]) for one in found]

        async def there() -> bool:
            return len(await commands()) >= count

        assert await until(there, 30), await commands()
        found = await commands()
        assert len(found) == count, found
        return found


async def test_each_kind_is_told_once_to_who_asked_and_to_webhooks(servers, receiver) -> None:
    async with running(build, servers) as service:
        floor = Floor(service)
        await floor.found()
        hook = {"url": receiver.url, "types": ["relevo.automation.alert_raised.v1"]}
        assert (await service.http.post("/webhooks", json=hook, headers=floor.who)).status_code == 201
        team = {"team_id": floor.team.id, "minutes": 5}
        await floor.wants(kind="status", states=["away"], **team)
        await floor.wants(kind="outside_shift", **team)
        await floor.wants(kind="nobody_available", **team)
        await floor.is_(floor.leo, "available", 60)
        await floor.is_(floor.eva, "away", 6)
        assert await floor.told(1) == [(floor.boss, "alert_status_away", {"name": "Eva", "minutes": 5})]
        await floor.is_(floor.leo, "available", 7, in_shift=False)
        assert (await floor.told(2))[1] == (floor.boss, "alert_outside_shift", {"name": "Leo", "minutes": 5})
        await floor.is_(floor.leo, "offline", 5.5)
        assert (await floor.told(3))[2] == (floor.boss, "alert_nobody_available", {"name": "Soporte", "minutes": 5})
        # Another status of those who are not there begins nothing anew, and what comes back soon is quiet.
        await floor.is_(floor.leo, "away", 0)
        await floor.is_(floor.eva, "available", 0)
        await floor.is_(floor.eva, "away", 6)
        await floor.told(3)
        bodies = await receiver.has(3)
        assert [(body["data"]["kind"], body["data"]["agent_id"]) for body in bodies] == [
            ("status", floor.eva),
            ("outside_shift", floor.leo),
            ("nobody_available", None),
        ]


async def test_what_ends_in_time_is_not_told_and_what_holds_already_is(servers) -> None:
    async with running(build, servers) as service:
        floor = Floor(service)
        await floor.found()
        await floor.is_(floor.eva, "away", 30)
        made = await floor.wants(kind="status", states=["away"], agent_id=floor.eva, minutes=10)
        assert await floor.told(1) == [(floor.boss, "alert_status_away", {"name": "Eva", "minutes": 10})]
        await floor.wants(kind="status", states=["busy"], agent_id=floor.leo, minutes=10)
        await floor.is_(floor.leo, "busy", 9)
        await floor.is_(floor.leo, "available", 0)
        path = f"/alerts/{made['id']}"
        body = {"kind": "status", "states": ["offline"], "agent_id": floor.leo, "minutes": 0}
        edited = await service.http.put(path, json=body, headers=floor.who | {"If-Match": '"1"'})
        assert (edited.status_code, edited.json()["version"]) == (200, 2)
        await floor.is_(floor.leo, "offline", 1)
        assert [template for _, template, _ in await floor.told(2)] == ["alert_status_away", "alert_status_offline"]
        assert (await service.http.delete(path, headers=floor.who | {"If-Match": '"2"'})).status_code == 204
        listed = (await service.http.get("/alerts", headers=floor.who)).json()["items"]
        assert [one["states"] for one in listed] == [["busy"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "status", "states": ["away"]}, "/team_id"),
        ({"kind": "nobody_available", "agent_id": new_id()}, "/team_id"),
        ({"kind": "status", "team_id": new_id()}, "/states"),
    ],
)
async def test_what_cannot_be_watched(servers, body, pointer) -> None:
    async with running(build, servers) as service:
        floor = Floor(service)
        await floor.found()
        answer = await service.http.post("/alerts", json=body, headers=floor.who)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        plain = floor.org.as_(floor.eva)
        assert (await service.http.get("/alerts", headers=plain)).status_code == 403


async def test_alerts_are_peoples(servers) -> None:
    async with running(build, servers) as service:
        floor = Floor(service)
        await floor.found()
        key = await _key(service, Permission.PRESENCE_OTHERS, account=floor.org.account)
        body = {"kind": "nobody_available", "team_id": floor.team.id}
        for who, wanted in ((key, [403] * 5), (floor.who, [201, 200, 200, 200, 204])):
            made = await service.http.post("/alerts", json=body, headers=who)
            path = f"/alerts/{made.json().get('id', new_id())}"
            answers = [
                made,
                await service.http.get("/alerts", headers=who),
                await service.http.get(path, headers=who),
                await service.http.put(path, json=body, headers=who | {"If-Match": '"1"'}),
                await service.http.delete(path, headers=who | {"If-Match": '"2"'}),
            ]
            assert [answer.status_code for answer in answers] == wanted
        assert made.json()["kind"] == "nobody_available"
