"""Named statuses, rules, shifts and attendance as others meet them: HTTP and the bus, on a real database and broker."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

from relevo.chassis.bus import until
from relevo.contracts.assignment import AgentLoadChanged
from relevo.contracts.base import new_id, now
from relevo.contracts.presence import Heartbeat

EVER = [["00:00", "24:00"]]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ALWAYS = {"time_zone": "America/Bogota", "weekly": dict.fromkeys(DAYS, EVER)}
NEVER = {"time_zone": "America/Bogota", "weekly": {}, "overrides": {"2001-01-01": EVER}}


async def ask(presence, method, path, who, json=None, **headers):
    return await presence.http.request(method, f"/presence{path}", json=json, headers=who | headers)


async def beat(presence, org, agent, **more):
    given = Heartbeat(agent_id=agent, device_id="laptop", at=now(), **more)
    await presence.admin.publish(given, account=org.account, entity=agent)


async def load(presence, org, agent, open_, received=0):
    told = AgentLoadChanged(agent_id=agent, open=open_, capacity=10, received=received)
    await presence.admin.publish(told, account=org.account, entity=agent)
    await presence.settle()


async def mine(presence, org, agent):
    return (await ask(presence, "GET", "/me", org.as_(agent))).json()


async def people(presence, org):
    ana, boss = await org.hire("Ana", language="es"), await org.hire("Boss", "administrator", language="es")
    await presence.settle()
    return ana, boss, org.as_(boss)


async def rules(presence, boss, **given):
    return await ask(presence, "PUT", "/rules", boss, given, **{"If-Match": "*"})


async def test_a_named_status_is_chosen_shown_and_kept_in_the_history(presence, org):
    ana, _, boss = await people(presence, org)
    lunch = {"name": "Comida", "state": "away", "colour": "#aabbcc", "longest_minutes": 60}
    made = (await ask(presence, "POST", "/statuses", boss, lunch)).json()
    assert (await ask(presence, "POST", "/statuses", boss, lunch | {"name": "COMIDA"})).json()["code"] == "name_taken"
    chosen = (await ask(presence, "PUT", "/me", org.as_(ana), {"status_id": made["id"]})).json()
    assert (chosen["state"], chosen["label"], chosen["overdue"]) == ("away", "Comida", False)
    edited = lunch | {"name": "Almuerzo"}
    seen = await ask(presence, "PUT", f"/statuses/{made['id']}", boss, edited, **{"If-Match": '"1"'})
    assert (seen.status_code, seen.headers["etag"]) == (200, '"2"')
    old = await ask(presence, "PUT", f"/statuses/{made['id']}", boss, edited, **{"If-Match": '"1"'})
    assert old.status_code == 412
    assert (await ask(presence, "DELETE", f"/statuses/{made['id']}", boss)).status_code == 204
    roster = (await ask(presence, "GET", "", boss)).json()["items"]
    assert [(one["label"], one["state"]) for one in roster if one["agent_id"] == ana] == [("Almuerzo", "away")]
    gone = await ask(presence, "PUT", "/me", org.as_(ana), {"status_id": made["id"]})
    assert (gone.status_code, gone.json()["code"]) == (404, "status_not_found")
    history = (await ask(presence, "GET", f"/history?agent_id={ana}", boss)).json()["items"]
    assert [(one["state"], one["label_id"]) for one in history] == [("offline", None), ("away", made["id"])]
    both = await ask(presence, "PUT", "/me", org.as_(ana), {"status_id": made["id"], "state": "busy"})
    assert both.json()["code"] == "state_or_status"


async def test_who_holds_too_many_is_busy_and_the_reason_says_how_many(presence, org):
    ana, _, boss = await people(presence, org)
    await beat(presence, org, ana)
    answer = await rules(presence, boss, busy_at=8, back_below=6)
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    await load(presence, org, ana, 8)
    await beat(presence, org, ana)
    await presence.settle()
    busy = await mine(presence, org, ana)
    assert (busy["state"], busy["cause"], busy["reason"]) == ("busy", "capacity", "Tiene 8 de 8 conversaciones.")
    await load(presence, org, ana, 6)
    assert (await mine(presence, org, ana))["state"] == "busy"
    await load(presence, org, ana, 5)
    await beat(presence, org, ana)
    await presence.settle()
    assert (await mine(presence, org, ana))["state"] == "available"
    told = [body for _, headers, body in await presence.admin.stored("EVT_PRESENCE") if b"watches_load" in body]
    assert len(told) == 1, "assignment hears that loads are to be told"


async def test_rules_that_do_not_agree_are_refused_with_their_fields(presence, org):
    ana, _, boss = await people(presence, org)
    wrong = await rules(presence, boss, busy_at=3, back_below=5, break_after_minutes=60)
    assert {one["pointer"] for one in wrong.json()["errors"]} == {"/back_below", "/break_status_id"}
    unknown = await rules(presence, boss, break_after_minutes=60, break_status_id=new_id())
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/break_status_id")
    assert (await ask(presence, "PUT", "/rules", boss, {})).status_code == 428
    assert (await ask(presence, "PUT", "/rules", org.as_(ana), {}, **{"If-Match": "*"})).status_code == 403


async def test_of_edits_of_one_state_at_once_one_is_taken_and_the_others_see_it(presence, org):
    _, _, boss = await people(presence, org)
    lunch, shift = {"name": "Comida", "state": "away"}, {"name": "Día", "calendar": ALWAYS}
    status = (await ask(presence, "POST", "/statuses", boss, lunch)).json()["id"]
    schedule = (await ask(presence, "POST", "/schedules", boss, shift)).json()["id"]
    for path, version, bodies in (
        ("/rules", 0, [{"busy_at": number} for number in range(3, 9)]),
        (f"/statuses/{status}", 1, [lunch | {"name": f"Comida {number}"} for number in range(6)]),
        (f"/schedules/{schedule}", 1, [shift | {"name": f"Día {number}"} for number in range(6)]),
        ("/policy", 0, [{"text_es": f"Avisa {number} minutos antes."} for number in range(6)]),
    ):
        edits = (ask(presence, "PUT", path, boss, body, **{"If-Match": f'"{version}"'}) for body in bodies)
        answers = await asyncio.gather(*edits)
        assert sorted(one.status_code for one in answers) == [200, *[412] * 5], path
        (taken,) = (one.json() for one in answers if one.status_code == 200)
        for refused in (one.json() for one in answers if one.status_code == 412):
            assert refused["present"].items() >= taken.items(), path


async def test_an_id_that_is_none_is_refused_with_its_field(presence, org):
    _, _, boss = await people(presence, org)
    cursor = base64.urlsafe_b64encode(b'["2026-01-01","abc"]').decode()
    for method, path, pointer, body in (
        ("PUT", "/statuses/abc", "/path/status_id", {"name": "Comida", "state": "away"}),
        ("DELETE", "/statuses/abc", "/path/status_id", None),
        ("PUT", "/schedules/abc", "/path/schedule_id", {"name": "D", "calendar": ALWAYS}),
        ("DELETE", "/schedules/abc", "/path/schedule_id", None),
        ("DELETE", "/absences/abc", "/path/absence_id", None),
        ("GET", "/absences?agent_id=abc", "/query/agent_id", None),
        ("GET", f"/absences?cursor={cursor}", "/query/cursor", None),
    ):
        answer = await ask(presence, method, path, boss, body, **{"If-Match": "*"})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), path


async def test_a_break_is_announced_put_off_once_and_begins_by_itself(presence, org):
    ana, _, boss = await people(presence, org)
    rest = (await ask(presence, "POST", "/statuses", boss, {"name": "Descanso", "state": "away"})).json()["id"]
    given = {"break_after_conversations": 2, "break_status_id": rest, "warning_minutes": 120, "put_off_minutes": 10}
    await rules(presence, boss, **given)
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    assert (await ask(presence, "POST", "/me/break/put-off", org.as_(ana))).json()["code"] == "no_break_to_put_off"
    await load(presence, org, ana, 2, received=2)
    (warning,) = [body for _, _, body in await presence.admin.stored("EVT_PRESENCE") if b"may_put_off" in body]
    assert b'"label":"Descanso"' in warning
    assert (await ask(presence, "POST", "/me/break/put-off", org.as_(ana))).status_code == 200
    assert (await ask(presence, "POST", "/me/break/put-off", org.as_(ana))).status_code == 409
    await rules(presence, boss, **given | {"warning_minutes": 0, "put_off_minutes": 0})
    resting = await mine(presence, org, ana)
    assert (resting["cause"], resting["label"], resting["reason"]) == (
        "break",
        "Descanso",
        "Descanso: le tocaba un descanso.",
    )
    back = await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    assert back.json()["state"] == "available"


async def test_nobody_at_the_keyboard_is_away(presence, org):
    ana, _, boss = await people(presence, org)
    await rules(presence, boss, away_after_minutes=5)
    await beat(presence, org, ana, acted_at=now() - timedelta(minutes=6))
    await presence.settle()
    assert (await mine(presence, org, ana))["cause"] == "idle"
    await beat(presence, org, ana, acted_at=now())
    await presence.settle()
    assert (await mine(presence, org, ana))["state"] == "available"


async def test_a_shift_counts_for_its_people_and_its_teams_and_an_absence_closes_it(presence, org):
    ana, boss_id, boss = await people(presence, org)
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    given = {"name": "Día", "calendar": ALWAYS, "agent_ids": [ana]}
    made = (await ask(presence, "POST", "/schedules", boss, given)).json()
    assert (made["version"], (await mine(presence, org, ana))["in_shift"]) == (1, True)
    coverage = (await ask(presence, "GET", "/coverage", boss)).json()["items"]
    assert [one["agents"] for one in coverage] == [1] * 24
    today = datetime.now(UTC).date()
    days = {"first_day": str(today - timedelta(days=2)), "last_day": str(today + timedelta(days=2))}
    away = (await ask(presence, "POST", "/absences", boss, {"agent_id": ana, **days, "note": "Baja"})).json()
    assert (await mine(presence, org, ana))["in_shift"] is False
    assert [one["id"] for one in (await ask(presence, "GET", "/absences", boss)).json()["items"]] == [away["id"]]
    assert (await ask(presence, "DELETE", f"/absences/{away['id']}", boss)).status_code == 204
    assert (await mine(presence, org, ana))["in_shift"] is True
    edited = {"name": "Noche", "calendar": NEVER, "agent_ids": [ana, boss_id]}
    answer = await ask(presence, "PUT", f"/schedules/{made['id']}", boss, edited, **{"If-Match": '"1"'})
    assert (answer.status_code, (await mine(presence, org, ana))["in_shift"]) == (200, False)
    bad = await ask(presence, "POST", "/schedules", boss, {"name": "X", "calendar": {"time_zone": "Mars/Base"}})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/calendar/time_zone")
    stranger = await ask(
        presence, "POST", "/schedules", boss, {"name": "X", "calendar": ALWAYS, "agent_ids": [new_id()]}
    )
    assert stranger.json()["errors"][0]["pointer"] == "/agent_ids"
    assert (await ask(presence, "DELETE", f"/schedules/{made['id']}", boss)).status_code == 204
    assert (await mine(presence, org, ana))["in_shift"] is None


async def test_a_moment_beyond_every_calendar_is_refused_with_its_field(presence, org):
    ana, _, boss = await people(presence, org)
    await ask(presence, "POST", "/schedules", boss, {"name": "Día", "calendar": ALWAYS, "agent_ids": [ana]})
    for beyond in ("0001-01-01T00:00:00Z", "1899-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        for path, field in ("/coverage?", "since"), (f"/history?agent_id={ana}&", "until"):
            answer = await ask(presence, "GET", f"{path}{field}={beyond}", boss, **{"Accept-Language": "en"})
            told = {"pointer": f"/query/{field}", "detail": "Must be between the years 1900 and 2999."}
            assert (answer.status_code, answer.json()["errors"]) == (422, [told])
    for edge in ("1900-01-01T00:00:00Z", "2999-12-31T23:59:59Z"):
        assert len((await ask(presence, "GET", f"/coverage?since={edge}", boss)).json()["items"]) == 24
        assert (await ask(presence, "GET", f"/history?agent_id={ana}&until={edge}", boss)).status_code == 200


async def test_a_shift_that_ends_sends_people_home_where_the_account_says_so(presence, org):
    ana, _, boss = await people(presence, org)
    await rules(presence, boss, at_shift_end="offline")
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    made = (
        await ask(presence, "POST", "/schedules", boss, {"name": "D", "calendar": ALWAYS, "agent_ids": [ana]})
    ).json()
    over = {"name": "D", "calendar": NEVER, "agent_ids": [ana]}
    await ask(presence, "PUT", f"/schedules/{made['id']}", boss, over, **{"If-Match": "*"})
    home = await mine(presence, org, ana)
    assert (home["state"], home["cause"], home["reason"]) == ("offline", "shift_over", "Terminó su turno.")
    overtime = await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    assert (overtime.json()["state"], overtime.json()["in_shift"]) == ("available", False)


async def test_attendance_is_what_was_recorded(presence, org):
    ana, _, boss = await people(presence, org)
    begin = now()
    await ask(presence, "POST", "/schedules", boss, {"name": "D", "calendar": ALWAYS, "agent_ids": [ana]})
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "available"})
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "away"})

    async def some_time():
        return now() - begin > timedelta(seconds=0.5)

    assert await until(some_time, 30)
    given = f"/attendance?since={begin.isoformat().replace('+00:00', 'Z')}&agent_id={ana}"
    (one,) = (await ask(presence, "GET", given, boss)).json()["items"]
    states = {found["state"]: found for found in one["statuses"]}
    assert set(states) == {"offline", "available", "away"}
    whole = sum(found["seconds"] for found in states.values())
    assert 0.4 < whole < 60
    assert one["present_in_shift_seconds"] == states["available"]["seconds"] + states["away"]["seconds"]
    assert one["adherence"] == one["present_in_shift_seconds"] / one["planned_seconds"]
    refused = await ask(presence, "GET", given.replace("2026", "1999", 1), boss)
    assert refused.json()["code"] == "bad_period"
    assert (await ask(presence, "GET", given, org.as_(ana))).status_code == 403


async def test_rules_shifts_and_statuses_of_accounts_are_apart(presence, org):
    _, _, boss = await people(presence, org)
    made = (await ask(presence, "POST", "/statuses", boss, {"name": "Comida", "state": "away"})).json()["id"]
    plan = (await ask(presence, "POST", "/schedules", boss, {"name": "Día", "calendar": ALWAYS})).json()["id"]
    other = type(org)(presence.admin)
    await other.found()
    stranger = await other.hire("Otra", "administrator")
    await presence.settle()
    them = other.as_(stranger)
    assert (await ask(presence, "GET", "/statuses", them)).json() == {"items": []}
    assert (await ask(presence, "GET", "/schedules", them)).json() == {"items": []}
    assert (await ask(presence, "DELETE", f"/statuses/{made}", them)).status_code == 404
    assert (await ask(presence, "DELETE", f"/schedules/{plan}", them)).status_code == 404
    assert (await ask(presence, "PUT", "/me", them, {"status_id": made})).status_code == 404
