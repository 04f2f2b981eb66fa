"""Reminders: due once unless somebody answers first, whatever the service was doing meanwhile."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from relevo.chassis.testing import running
from relevo.chassis.timers import run_due
from relevo.contracts.assignment import ConversationAssigned, Reason
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import Remind
from relevo.contracts.identity import CalendarState, WeekdayHours
from relevo.contracts.permissions import ConversationScope
from relevo.conversation import handlers
from relevo.conversation.app import build
from relevo.conversation.domain.reminders import due_in, open_in
from relevo.conversation.due import TIMERS
from relevo.kernel.business_time import WEEKDAYS, business_seconds
from relevo.kernel.calendars import calendar_of


async def put(desk, path, who, **more):
    answer = await desk.post(f"{path}/reminders", who, {"hours": 2} | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def hours_pass(desk):
    """All that waits is due now."""
    with psycopg.connect(desk.service.dsn) as connection:
        connection.execute("update timers set due_at = now() - interval '1 minute' where kind = 'reminder'")
    while await run_due(desk.service.runtime.database, TIMERS):
        pass
    await desk.service.settle()


async def told(desk, kind):
    await desk.service.settle()
    stored = await desk.service.admin.stored("EVT_CONVERSATION")
    return [json.loads(body) for _, headers, body in stored if headers["ce-type"].endswith(f".{kind}.v1")]


async def texts(desk, path, who):
    return [one["text"] for one in (await desk.get(f"{path}/reminders", who)).json()["items"]]


def test_a_reminder_is_due_once_and_names_whom_it_is_for_then(at_desk):
    async def body(desk):
        eva, hers = await desk.agent()
        luis, his = await desk.agent()
        path = await desk.begun(hers)
        conversation = path.rpartition("/")[2]
        mine = await put(desk, path, hers, text="Llamar  a Luz ")
        assert (mine["to"], mine["agent_id"], mine["text"], mine["unless"]) == (
            "agent",
            eva,
            "Llamar  a Luz",
            "nothing",
        )
        await put(desk, path, hers, to="assignee", text="al que la tenga")
        await put(desk, path, hers, to="agent", agent_id=luis, text="a Luis", days=1, hours=None)
        await put(desk, path, hers, to="team", text="sin equipo")
        assigned = ConversationAssigned(
            conversation_id=conversation, version=1, assignee_id=luis, reason=Reason(code="self", es="", en="")
        )
        await desk.service.admin.publish(assigned, account=desk.world.account_id, entity=conversation, sequence=1)
        await desk.service.settle()
        assert [one["text"] for one in (await desk.get("/reminders", his)).json()["items"]] == [
            "al que la tenga",
            "a Luis",
        ]
        first = (await desk.get("/reminders", hers, limit=3)).json()
        rest = (await desk.get("/reminders", hers, limit=3, cursor=first["next"])).json()
        assert len(first["items"]) == 3
        assert [one["text"] for one in rest["items"]] == ["a Luis"]

        await hours_pass(desk)
        await hours_pass(desk)
        due = {
            event["reminder"]["text"]: (event["agent_id"], event["team_id"])
            for event in await told(desk, "reminder_due")
        }
        assert due == {
            "Llamar  a Luz": (eva, None),
            "al que la tenga": (luis, None),
            "a Luis": (luis, None),
            "sin equipo": (luis, None),
        }
        assert len(await told(desk, "reminder_due")) == 4
        assert await texts(desk, path, hers) == []
        assert "Relevo recordó esta conversación a Eva Ruiz." in await desk.lines(path, hers)

    at_desk(body)


def test_answers_and_the_resolution_make_it_moot(at_desk):
    async def body(desk):
        _, hers = await desk.agent()
        path = await desk.begun(hers)
        for unless in ("customer_answers", "agent_answers", "anyone_answers", "nothing"):
            await put(desk, path, hers, unless=unless, text=unless)
        assert len(await texts(desk, path, hers)) == 4
        await desk.post(f"{path}/messages", hers, {"text": "nota", "private": True})
        assert len(await texts(desk, path, hers)) == 4, "a note answers nobody"
        await desk.post(f"{path}/messages", hers, {"text": "Buenos días"})
        assert sorted(await texts(desk, path, hers)) == ["customer_answers", "nothing"]
        await put(desk, path, hers, unless="anyone_answers", text="solo una nota")
        await desk.post(f"{path}/messages", hers, {"text": "otra nota", "private": True})
        await hours_pass(desk)
        due = [event["reminder"]["text"] for event in await told(desk, "reminder_due")]
        assert sorted(due) == ["customer_answers", "nothing", "solo una nota"]

        await put(desk, path, hers, unless="customer_answers", text="contesta")
        await desk.customer_writes(text="Gracias")
        assert await texts(desk, path, hers) == []
        await put(desk, path, hers, text="se resuelve")
        await desk.post(f"{path}/resolve", hers)
        await desk.post(f"{path}/reopen", hers)
        assert await texts(desk, path, hers) == []
        await hours_pass(desk)
        assert len(await told(desk, "reminder_due")) == 3

    at_desk(body)


def test_it_is_put_away_and_what_cannot_be_is_refused(at_desk):
    async def body(desk):
        _, hers = await desk.agent()
        _, his = await desk.agent(scope=ConversationScope.OWN)
        blind, _ = await desk.agent("marketing")
        path = await desk.begun(hers)
        once = {"idempotency_key": "k"}
        made = (await desk.post(f"{path}/reminders", hers, {"hours": 1}, **once)).json()
        assert (await desk.post(f"{path}/reminders", hers, {"hours": 1}, **once)).json() == made
        assert (await desk.post(f"{path}/reminders", his, {"hours": 1})).status_code == 404
        assert (await desk.get(f"{path}/reminders", his)).status_code == 404
        assert (await desk.send("DELETE", f"{path}/reminders/{made['id']}", his)).status_code == 404
        for wrong, pointer in (
            ({}, "/hours"),
            ({"hours": 1, "days": 1}, "/hours"),
            ({"due_at": (now() - timedelta(hours=1)).isoformat()}, "/due_at"),
            ({"hours": 1, "to": "agent"}, "/agent_id"),
            ({"hours": 1, "agent_id": new_id()}, "/agent_id"),
            ({"hours": 1, "to": "agent", "agent_id": blind}, "/agent_id"),
        ):
            await desk.refused(await desk.post(f"{path}/reminders", hers, wrong), 422, "invalid_reminder", pointer)
        assert (await desk.send("DELETE", f"{path}/reminders/{made['id']}", hers)).status_code == 204
        gone = await desk.send("DELETE", f"{path}/reminders/{made['id']}", hers)
        await desk.refused(gone, 404, "reminder_not_found")
        await hours_pass(desk)
        assert await told(desk, "reminder_due") == []
        assert [event["reminder"]["id"] for event in await told(desk, "reminder_cancelled")] == [made["id"]]
        for _ in range(20):
            await put(desk, path, hers)
        await desk.refused(await desk.post(f"{path}/reminders", hers, {"hours": 1}), 409, "too_many_reminders")
        await desk.post(f"{path}/resolve", hers)
        await desk.refused(await desk.post(f"{path}/reminders", hers, {"hours": 1}), 409, "conversation_is_resolved")

    at_desk(body)


def test_a_rule_has_one_reminder_at_a_time_and_a_service_that_was_down_rings_it_once(servers, world, desk_of):
    async def body():
        async with running(build, servers) as service:
            desk = desk_of(service, world)
            _, hers = await desk.agent()
            path = await desk.begun(hers)
            conversation = path.rpartition("/")[2]

            async def rule(text, id_=None, **more):
                data = Remind(conversation_id=conversation, text=text, **({"hours": 3} | more))
                async with service.runtime.database.begin(world.account_id) as tx:
                    await handlers.on_commands([world.command(data, conversation, id_)], tx)

            same = new_id()
            await rule("primero", same)
            await rule("primero", same)
            await rule("otra vez")
            assert await texts(desk, path, hers) == ["primero"]
            await desk.post(f"{path}/messages", hers, {"text": "Hola"})
            await rule("de nuevo", days=2, hours=None)
            assert await texts(desk, path, hers) == ["de nuevo"]
            bus, dsn = service.bus, service.dsn
        with psycopg.connect(dsn) as connection:
            connection.execute("update timers set due_at = now() - interval '3 days' where kind = 'reminder'")
            assert connection.execute("select count(*) from timers where kind = 'reminder'").fetchone() == (1,)
        async with running(build, servers, bus=bus, dsn=dsn) as one, running(build, servers, bus=bus, dsn=dsn) as two:
            both = desk_of(one, world), desk_of(two, world)
            for desk in both:
                while await run_due(desk.service.runtime.database, TIMERS):
                    pass
            due = await told(both[0], "reminder_due")
            assert [(event["reminder"]["text"], event["agent_id"], event["reminder"]["set_by"]) for event in due] == [
                ("de nuevo", None, "rule:r1")
            ]

    asyncio.run(body())


def test_business_hours_count_where_a_calendar_does(at_desk):
    async def body(desk):
        _, hers = await desk.agent()
        path = await desk.begun(hers)
        asked = {"hours": 10, "business_hours": True}
        refused = await desk.post(f"{path}/reminders", hers, asked)
        await desk.refused(refused, 422, "invalid_reminder", "/business_hours")
        week = [WeekdayHours(day=day, opens="09:00", closes="17:00") for day in WEEKDAYS[:5]]
        calendar = CalendarState(
            id=new_id(),
            account_id=desk.world.account_id,
            name="c",
            time_zone="Europe/Madrid",
            weekly=week,
            is_default=True,
        )
        await desk.know("calendar", calendar)
        made = await put(desk, path, hers, **asked)
        due, start = datetime.fromisoformat(made["due_at"]), datetime.fromisoformat(made["set_at"])
        counted = business_seconds(calendar_of(calendar), start, due)
        assert counted == 10 * 3600
        assert due - start > timedelta(hours=10)

    at_desk(body)


@pytest.mark.parametrize(
    ("hours", "days", "expected"),
    [
        (24, None, datetime(2026, 3, 29, 11, tzinfo=UTC)),
        (None, 1, datetime(2026, 3, 29, 10, tzinfo=UTC)),
        (None, 30, datetime(2026, 4, 27, 10, tzinfo=UTC)),
    ],
)
def test_days_keep_the_time_of_day_over_a_change_of_clocks(hours, days, expected):
    start = datetime(2026, 3, 28, 11, tzinfo=UTC)
    assert due_in(start, hours=hours, days=days, zone=ZoneInfo("Europe/Madrid")) == expected


def test_a_day_that_ends_when_it_is_closed_is_moved_to_the_next_opening():
    week = [WeekdayHours(day=day, opens="09:00", closes="17:00") for day in WEEKDAYS[:5]]
    calendar = calendar_of(
        CalendarState(id=new_id(), account_id=new_id(), name="c", time_zone="Europe/Madrid", weekly=week)
    )
    friday = datetime(2026, 3, 27, 15, 30, tzinfo=UTC)  # 16:30 there
    assert open_in(friday, calendar, hours=1, days=None) == datetime(2026, 3, 30, 7, 30, tzinfo=UTC)
    assert open_in(friday, calendar, hours=None, days=1) == datetime(2026, 3, 30, 7, tzinfo=UTC)
    assert open_in(friday, calendar, hours=None, days=3) == datetime(2026, 3, 30, 14, 30, tzinfo=UTC)
