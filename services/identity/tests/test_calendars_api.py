"""Business calendars through the API, on real PostgreSQL and NATS."""

import pytest

from relevo.chassis.calendars import calendars
from relevo.chassis.testing import unique
from relevo.contracts.base import new_id
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.contracts.permissions import Permission

from .test_directory_api import events, of

pytestmark = pytest.mark.asyncio(loop_scope="module")

OFFICE = {
    "time_zone": "Europe/Madrid",
    "weekly": [
        {"day": day, "opens": opens, "closes": closes}
        for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
        for opens, closes in (("09:00", "14:00"), ("16:00", "19:00"))
    ],
}


async def made(account, **more):
    body = {"name": unique("calendar"), **OFFICE, **more}
    return (await account.call("POST", "/calendars", body, expect=201)).json()


async def inbox(account) -> str:
    state = InboxState(id=new_id(), account_id=account.id, name="Web", channel="webchat")
    await account.service.admin.publish(InboxChanged(inbox=state), account=account.id, entity=state.id, sequence=1)
    await account.service.settle()
    return state.id


async def opening(account, calendar, at):
    answer = await account.call("GET", f"/calendars/{calendar['id']}/opening?at={at}", expect=200)
    return answer.json()


async def test_a_calendar_is_made_edited_and_removed_with_an_event_each_time(account):
    calendar = await made(account, name="Oficina", is_default=True)
    assert (calendar["version"], calendar["is_default"], len(calendar["weekly"])) == (1, True, 10)
    path = f"/calendars/{calendar['id']}"
    read = await account.call("GET", path, expect=200)
    assert (read.json(), read.headers["etag"]) == (calendar, '"1"')
    assert (await account.call("PATCH", path, {"name": "X"})).status_code == 428
    nights = [{"day": "friday", "opens": "22:00", "closes": "06:00"}]
    edited = await account.call("PATCH", path, {"weekly": nights}, If_Match='"1"', expect=200)
    assert (edited.json()["weekly"], edited.json()["name"], edited.headers["etag"]) == (nights, "Oficina", '"2"')
    stale = await account.call("PATCH", path, {"name": "X"}, If_Match='"1"', expect=412)
    assert stale.json()["present"]["version"] == 2
    # 2026-11-20 is a Friday; its night ends on Saturday morning.
    assert (await opening(account, calendar, "2026-11-21T04:00:00Z"))["closes_at"] == "2026-11-21T05:00:00Z"
    closed = await opening(account, calendar, "2026-11-21T05:00:00Z")
    assert (closed["open"], closed["opens_at"]) == (False, "2026-11-27T21:00:00Z")
    assert closed["closes_at"] == "2026-11-28T05:00:00Z"
    listed = (await account.call("GET", "/calendars", expect=200)).json()
    assert listed == {"items": [edited.json()], "next": None}
    await account.call("DELETE", path, expect=428)
    await account.call("DELETE", path, If_Match='"2"', expect=204)
    await account.call("GET", path, expect=404)
    told = of(await events(account), "calendar", calendar["id"])
    assert [(sequence, body["deleted"]) for sequence, body in told] == [(1, False), (2, False), (3, True)]
    audit = (await account.call("GET", "/audit?entity_kind=calendar", expect=200)).json()["items"]
    assert [one["action"] for one in audit] == ["calendar.removed", "calendar.updated", "calendar.created"]


async def test_the_inboxs_calendar_counts_before_the_teams_and_that_before_the_accounts(account):
    team = (await account.call("POST", "/teams", {"name": unique("team")}, expect=201)).json()["id"]
    web, mail = await inbox(account), await inbox(account)
    default = await made(account, is_default=True)
    of_team = await made(account, team_ids=[team])
    of_inbox = await made(account, inbox_ids=[web])

    async def counting() -> list[str | None]:
        async with account.service.runtime.database.begin(account.id) as tx:
            known = (await calendars(tx, [account.id]))[account.id]
        asked = ((web, team), (mail, team), (mail, None))
        found = [known.of(inbox_id=inbox_id, team_id=team_id) for inbox_id, team_id in asked]
        return [one.id if one else None for one in found]

    assert await counting() == [of_inbox["id"], of_team["id"], default["id"]]
    # What one takes leaves the calendar that had it, which hears of it.
    taker = await made(account, is_default=True, inbox_ids=[web])
    assert await counting() == [taker["id"], of_team["id"], taker["id"]]
    left = (await account.call("GET", f"/calendars/{of_inbox['id']}", expect=200)).json()
    assert (left["inbox_ids"], left["version"]) == ([], 2)
    assert [sequence for sequence, _ in of(await events(account), "calendar", default["id"])] == [1, 2]
    await account.call("DELETE", f"/calendars/{taker['id']}", If_Match="*", expect=204)
    assert await counting() == [of_team["id"], of_team["id"], None]


async def test_holidays_come_from_a_text(account):
    calendar = await made(account)
    path = f"/calendars/{calendar['id']}/special-days"
    text = "2026-12-25 Navidad\n2026-12-24 09:00-12:00 Nochebuena\n"
    await account.call("POST", path, {"text": text}, expect=428)
    answer = await account.call("POST", path, {"text": text}, If_Match='"1"', expect=200)
    assert [(day["date"], day["name"]) for day in answer.json()["special_days"]] == [
        ("2026-12-24", "Nochebuena"),
        ("2026-12-25", "Navidad"),
    ]
    assert (await opening(account, calendar, "2026-12-24T11:30:00Z"))["opens_at"] == "2026-12-28T08:00:00Z"
    more = await account.call("POST", path, {"text": "2027-01-06 Reyes"}, If_Match='"2"', expect=200)
    assert len(more.json()["special_days"]) == 3
    only = await account.call("POST", path, {"text": "2027-01-06", "replace": True}, If_Match='"3"', expect=200)
    assert [day["date"] for day in only.json()["special_days"]] == ["2027-01-06"]
    bad = await account.call("POST", path, {"text": "2027-01-01\n6 de enero"}, If_Match="*", expect=422)
    assert [error["detail"][:7] for error in bad.json()["errors"]] == ["Line 2:"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"time_zone": "Mars/Base"}, "/time_zone"),
        ({"weekly": [{"day": "lunes", "opens": "09:00", "closes": "10:00"}]}, "/weekly/0/day"),
        ({"weekly": [{"day": "monday", "opens": "24:00", "closes": "10:00"}]}, "/weekly/0/opens"),
        ({"weekly": [{"day": "monday", "opens": "09:00", "closes": "9"}]}, "/weekly/0/closes"),
        ({"weekly": [{"day": "monday", "opens": "09:00", "closes": "10:00"}] * 25}, "/weekly/24"),
        ({"special_days": [{"date": "2026-02-30"}]}, "/special_days/0/date"),
        ({"special_days": [{"date": "2026-02-01"}, {"date": "2026-02-01"}]}, "/special_days/1/date"),
        ({"team_ids": [new_id()]}, "/team_ids"),
        ({"inbox_ids": [new_id()]}, "/inbox_ids"),
        ({"name": " "}, "/name"),
        ({"holidays": []}, "/holidays"),
    ],
)
async def test_a_bad_calendar_is_refused_where_it_is_bad(account, change, pointer):
    for language in ("es", "en"):
        answer = await account.call(
            "POST", "/calendars", {"name": "x", **OFFICE, **change}, expect=422, Accept_Language=language
        )
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_calendars_are_of_one_account_and_of_those_who_may(account, other):
    theirs = await made(other)
    path = f"/calendars/{theirs['id']}"
    await account.call("GET", path, expect=404)
    await account.call("GET", f"{path}/opening", expect=404)
    await account.call("PATCH", path, {"name": "Mine"}, If_Match="*", expect=404)
    await account.call("DELETE", path, If_Match="*", expect=404)
    assert (await account.call("GET", "/calendars", expect=200)).json()["items"] == []
    await made(account, name=theirs["name"])
    again = await account.call("POST", "/calendars", {"name": theirs["name"].upper(), **OFFICE}, expect=409)
    assert again.json()["code"] == "name_taken"
    made_key = {"name": "k", "permissions": [Permission.DIRECTORY_READ.value]}
    reader = (await account.call("POST", "/api-keys", made_key, expect=201)).json()["key"]
    await account.call("GET", "/calendars", token=reader, expect=200)
    await account.call("POST", "/calendars", {"name": "y", **OFFICE}, token=reader, expect=403)
