"""The account's rules of availability as a text, acknowledged by each, and what a status event says of being back."""

import json
from datetime import timedelta

from relevo.chassis.auth import new_key
from relevo.contracts.base import now
from relevo.contracts.identity import KeyChanged, KeyState
from relevo.contracts.permissions import Permission
from relevo.presence.domain.precedence import ROWS

from .test_rules_api import ask, people

PATH = "/policy"


async def write(presence, who, version, **texts):
    return await ask(presence, "PUT", PATH, who, texts, **{"If-Match": f'"{version}"'})


async def test_the_text_is_shown_until_it_is_acknowledged_and_again_when_it_changes(presence, org):
    ana, chief, boss = await people(presence, org)
    eva = await org.hire("Eva", language="en")
    await presence.settle()
    mine = org.as_(ana)
    nothing = (await ask(presence, "GET", PATH, mine)).json()
    assert (nothing["version"], nothing["text"], nothing["to_acknowledge"]) == (0, "", False)
    kept = await write(presence, boss, 0, text_es="Avisa antes de comer.", text_en="Tell us before lunch.")
    assert (kept.status_code, kept.headers["etag"]) == (200, '"1"')
    shown = (await ask(presence, "GET", PATH, mine)).json()
    assert (shown["text"], shown["to_acknowledge"]) == ("Avisa antes de comer.", True)
    assert (await ask(presence, "GET", PATH, org.as_(eva))).json()["text"] == "Tell us before lunch."
    done = (await ask(presence, "POST", f"{PATH}/acknowledgement", mine, {"version": 1})).json()
    assert (done["to_acknowledge"], done["acknowledged_version"]) == (False, 1)
    again = (await ask(presence, "POST", f"{PATH}/acknowledgement", mine, {"version": 1})).json()
    assert again["acknowledged_at"] == done["acknowledged_at"]
    first = (await ask(presence, "GET", f"{PATH}/acknowledgements?limit=2", boss)).json()
    rest = (await ask(presence, "GET", f"{PATH}/acknowledgements?cursor={first['next']}", boss)).json()
    listed = {one["agent_id"]: one["acknowledged_at"] for one in first["items"] + rest["items"]}
    assert listed == {ana: done["acknowledged_at"], chief: None, eva: None}
    await write(presence, boss, 1, text_es="Avisa siempre.")
    changed = (await ask(presence, "GET", PATH, mine)).json()
    assert (changed["version"], changed["to_acknowledge"], changed["acknowledged_version"]) == (2, True, 1)
    assert (await ask(presence, "GET", PATH, org.as_(eva))).json()["text"] == "Avisa siempre."
    late = await ask(presence, "POST", f"{PATH}/acknowledgement", mine, {"version": 1})
    assert (late.status_code, late.json()["code"]) == (409, "another_version")
    everybody = (await ask(presence, "GET", f"{PATH}/acknowledgements", boss)).json()["items"]
    assert [one["acknowledged_at"] for one in everybody] == [None, None, None]


async def test_what_decides_and_the_guide_stand_beside_it_in_the_reader_s_language(presence, org):
    ana, _, boss = await people(presence, org)
    eva = await org.hire("Eva", language="en")
    await presence.settle()
    spanish, english = [(await ask(presence, "GET", PATH, org.as_(one))).json() for one in (ana, eva)]
    assert [one["known"] for one in spanish["precedence"]] == [row.es for row in ROWS]
    assert [one["known"] for one in english["precedence"]] == [row.en for row in ROWS]
    assert [one["topic"] for one in english["guide"]] == ["status", "shift", "queue"]
    assert [one["title"] for one in spanish["guide"]] == ["Tu estado", "Tu turno", "La cola"]
    assert (await ask(presence, "PUT", PATH, org.as_(ana), {}, **{"If-Match": "*"})).status_code == 403
    assert (await ask(presence, "GET", f"{PATH}/acknowledgements", org.as_(ana))).status_code == 403
    assert (await ask(presence, "PUT", PATH, boss, {})).status_code == 428
    await write(presence, boss, 0, text_es="uno")
    assert (await write(presence, boss, 0, text_es="dos")).status_code == 412
    long = await write(presence, boss, 1, text_es="x" * 20_001)
    assert (long.status_code, long.json()["errors"][0]["pointer"]) == (422, "/text_es")


async def test_a_key_acknowledges_nothing(presence, org):
    _, _, boss = await people(presence, org)
    await write(presence, boss, 0, text_es="uno")
    key = new_key("api")
    state = KeyState(
        id=key.id,
        account_id=org.account,
        kind="api",
        name="k",
        sha256=key.sha256,
        permissions=frozenset({Permission.PRESENCE_SELF}),
    )
    await presence.admin.publish(KeyChanged(key=state), account=org.account, entity=key.id, sequence=1)
    await presence.settle()
    who = {"Authorization": f"Bearer {key.plain}"}
    assert (await ask(presence, "GET", PATH, who)).json()["to_acknowledge"] is False
    refused = await ask(presence, "POST", f"{PATH}/acknowledgement", who, {"version": 1})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_an_agent")


async def test_a_status_says_when_somebody_is_expected_back(presence, org):
    ana, _, boss = await people(presence, org)
    until = now() + timedelta(hours=1)
    await ask(presence, "PUT", "/me", org.as_(ana), {"state": "away", "until": until.isoformat()})
    tomorrow = now() + timedelta(days=1)
    shift = {"time_zone": "UTC", "weekly": {}, "overrides": {tomorrow.date().isoformat(): [["09:00", "17:00"]]}}
    made = await ask(presence, "POST", "/schedules", boss, {"name": "S", "calendar": shift, "agent_ids": [ana]})
    assert made.status_code == 201, made.text
    await presence.settle()
    told = [
        json.loads(body)["status"]
        for _, headers, body in await presence.admin.stored("EVT_PRESENCE")
        if headers["ce-subject"] == ana
    ]
    assert told[0]["back_at"].startswith(until.strftime("%Y-%m-%dT%H:%M"))
    assert (told[-1]["in_shift"], told[-1]["back_at"]) == (False, f"{tomorrow.date().isoformat()}T09:00:00Z")
