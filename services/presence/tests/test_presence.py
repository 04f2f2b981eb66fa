"""Presence as others meet it: HTTP and the bus, on a real database and broker."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import namedtuple_row

from relevo.chassis.bus import until
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import SessionRevoked
from relevo.contracts.presence import Heartbeat


async def beat(service, org, agent, device="laptop", **more):
    await service.admin.publish(
        Heartbeat(agent_id=agent, device_id=device, at=now(), **more), account=org.account, entity=agent
    )


async def state_of(service, org, agent):
    return (await service.http.get("/presence/me", headers=org.as_(agent))).json()


async def published(service, agent):
    stored = await service.admin.stored("EVT_PRESENCE")
    return [json.loads(body) for _, headers, body in stored if headers["ce-subject"] == agent]


async def assert_tiled(service):
    """In the database: one open interval an agent, every other ends where the next begins."""
    with psycopg.connect(service.dsn, row_factory=namedtuple_row) as connection:
        rows = connection.execute("select agent_id, from_at, to_at from status_history order by 1, 2").fetchall()
        now_rows = connection.execute("select agent_id, since from agent_status order by 1").fetchall()
    assert rows
    for agent, intervals in itertools.groupby(rows, key=lambda row: row.agent_id):
        listed = list(intervals)
        assert all(one.to_at == following.from_at for one, following in itertools.pairwise(listed))
        assert listed[-1].to_at is None
        assert dict(tuple(row) for row in now_rows)[agent] == listed[-1].from_at


async def test_a_choice_by_http_is_seen_told_and_kept(presence, org):
    ana, sara = await org.hire("Ana"), await org.hire("Sara", "supervisor")
    await presence.settle()
    answer = await presence.http.put("/presence/me", json={"state": "available"}, headers=org.as_(ana))
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "available"
    assert answer.json()["connected"] is True
    again = await presence.http.put("/presence/me", json={"state": "available"}, headers=org.as_(ana))
    assert again.json()["since"] == answer.json()["since"]
    busy = await presence.http.put(
        f"/presence/{ana}", json={"state": "busy", "until": "2999-01-01T00:00:00Z"}, headers=org.as_(sara)
    )
    assert (busy.json()["state"], busy.json()["cause"]) == ("busy", "supervisor")
    roster = (await presence.http.get("/presence", headers=org.as_(sara))).json()["items"]
    assert [(one["name"], one["state"]) for one in roster] == [("Ana", "busy"), ("Sara", "offline")]
    history = (await presence.http.get("/presence/history", params={"agent_id": ana}, headers=org.as_(sara))).json()[
        "items"
    ]
    assert [one["state"] for one in history] == ["offline", "available", "busy"]
    assert [one["actor"] for one in history] == ["system", f"agent:{ana}", f"agent:{sara}"]
    await presence.settle()
    told = await published(presence, ana)
    assert [(one["previous"], one["status"]["state"]) for one in told] == [
        ("offline", "available"),
        ("available", "busy"),
    ]
    await assert_tiled(presence)


async def test_history_in_pages_misses_and_repeats_nothing(presence, org):
    ana = await org.hire("Ana")
    await presence.settle()
    for state in ("available", "busy", "away", "offline", "available"):
        await presence.http.put("/presence/me", json={"state": state}, headers=org.as_(ana))
    found, cursor = [], None
    while True:
        given = {"agent_id": ana, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await presence.http.get("/presence/history", params=given, headers=org.as_(ana))).json()
        found += [one["state"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == ["offline", "available", "busy", "away", "offline", "available"]


async def test_heartbeats_connect_and_their_end_disconnects(presence, org):
    ana = await org.hire("Ana")
    await beat(presence, org, ana)
    await presence.settle()
    assert (await state_of(presence, org, ana))["cause"] == "connected"

    async def expired():
        return (await state_of(presence, org, ana))["cause"] == "expired"

    assert await until(expired, 30)
    await presence.settle()
    first, last = await published(presence, ana)
    assert (first["status"]["state"], last["status"]["state"]) == ("available", "offline")
    lasted = datetime.fromisoformat(last["status"]["since"]) - datetime.fromisoformat(first["status"]["since"])
    assert timedelta(seconds=1) < lasted < timedelta(seconds=4)
    await assert_tiled(presence)


async def test_signing_out_of_one_device_keeps_the_other(presence, org):
    ana = await org.hire("Ana")
    await beat(presence, org, ana, "laptop")
    await beat(presence, org, ana, "phone")
    await beat(presence, org, ana, "laptop", connected=False, signed_out=True)
    await presence.settle()
    assert (await state_of(presence, org, ana))["state"] == "available"
    await beat(presence, org, ana, "phone", connected=False, signed_out=True)
    await presence.settle()
    assert (await state_of(presence, org, ana))["cause"] == "sign_out"


async def test_an_ended_session_ends_the_http_device(presence, org):
    ana = await org.hire("Ana")
    await presence.settle()
    await presence.http.put("/presence/me", json={"state": "available"}, headers=org.as_(ana))
    ended = SessionRevoked(session_id=new_id(), agent_id=ana, account_id=org.account, until=datetime.now(UTC))
    await org.tell(ended, ended.session_id)
    await presence.settle()
    assert (await state_of(presence, org, ana))["cause"] == "sign_out"


async def test_a_removed_agent_goes_offline(presence, org):
    ana, sara = await org.hire("Ana"), await org.hire("Sara", "supervisor")
    await presence.settle()
    await presence.http.put("/presence/me", json={"state": "available"}, headers=org.as_(ana))
    await org.dismiss(ana)
    await presence.settle()
    assert (await published(presence, ana))[-1]["status"]["cause"] == "removed"
    roster = (await presence.http.get("/presence", headers=org.as_(sara))).json()["items"]
    assert [one["name"] for one in roster] == ["Sara"]


async def test_what_cannot_be_is_refused_with_the_field(presence, org):
    ana = await org.hire("Ana")
    await presence.settle()
    me = org.as_(ana)
    past = await presence.http.put("/presence/me", json={"state": "busy", "until": "2001-01-01T00:00:00Z"}, headers=me)
    assert (past.status_code, past.json()["errors"][0]["pointer"]) == (422, "/until")
    assert (await presence.http.put("/presence/me", json={"state": "asleep"}, headers=me)).status_code == 422
    assert (await presence.http.put(f"/presence/{new_id()}", json={"state": "busy"}, headers=me)).status_code == 403, (
        "an agent may not set others"
    )
    other = await presence.http.get("/presence/history", params={"agent_id": new_id()}, headers=me)
    assert other.status_code == 403
    boss = org.as_(await org.hire("Boss", "supervisor"))
    await presence.settle()
    assert (await presence.http.get("/presence/history", params={"agent_id": ana}, headers=boss)).status_code == 200
    empty = await presence.http.get(
        "/presence/history", params={"agent_id": ana, "since": "2999-01-01T00:00:00Z"}, headers=me
    )
    assert (empty.status_code, empty.json()["code"]) == (422, "bad_period")


async def test_accounts_are_apart(presence, org):
    other = type(org)(presence.admin)
    await other.found()
    ana, boss = await org.hire("Ana"), await other.hire("Boss", "administrator")
    await presence.settle()
    as_boss = other.as_(boss)
    assert (await presence.http.put(f"/presence/{ana}", json={"state": "offline"}, headers=as_boss)).status_code == 404
    assert (await presence.http.get("/presence/history", params={"agent_id": ana}, headers=as_boss)).status_code == 404
    await presence.admin.publish(Heartbeat(agent_id=ana, device_id="x", at=now()), account=other.account, entity=ana)
    await beat(presence, org, boss)  # and the same the other way round, in one batch with a good one
    await beat(presence, other, boss)
    await presence.settle()
    assert (await state_of(presence, org, ana))["state"] == "offline"
    assert (await state_of(presence, other, boss))["state"] == "available"
