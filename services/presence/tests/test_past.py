"""Everybody's status as of a past moment."""

import random
from datetime import UTC, datetime, timedelta

from relevo.contracts.base import now


async def test_as_of_a_moment_everybody_is_what_they_were_then(presence, org):
    chance = random.Random(3)
    people = [await org.hire(name) for name in ("Ana", "Bea", "Cid")]
    sara = await org.hire("Sara", "supervisor")
    await presence.settle()

    async def ask(at, who=sara, **more):
        return await presence.http.get("/presence/as-of", params={"at": at, **more}, headers=org.as_(who))

    kept = []
    for _ in range(12):
        one, state = chance.choice(people), chance.choice(["available", "busy", "away", "offline"])
        await presence.http.put(f"/presence/{one}", json={"state": state}, headers=org.as_(sara))
        await presence.http.put("/presence/me", json={"state": state}, headers=org.as_(one))
        roster = (await presence.http.get("/presence", headers=org.as_(sara))).json()["items"]
        kept.append((now().isoformat(), {row["agent_id"]: row for row in roster}))
    await org.dismiss(people[0])
    await presence.settle()
    for at, roster in kept:
        page = (await ask(at, limit=2)).json()
        items = page["items"] + (await ask(at, limit=2, cursor=page["next"])).json()["items"]
        assert [one["agent_id"] for one in items] == sorted(roster)
        for one in items:
            was = roster[one["agent_id"]]
            assert (one["state"], one["from_at"], one["cause"]) == (was["state"], was["since"], was["cause"])
            assert one["from_at"] <= at
            assert one["name"] == ("" if one["agent_id"] == people[0] else was["name"])
    assert (await ask(datetime(2020, 1, 1, tzinfo=UTC).isoformat())).json()["items"] == []
    late = await ask((now() + timedelta(hours=1)).isoformat())
    assert (late.status_code, late.json()["code"]) == (422, "moment_in_the_future")
    assert (await ask(kept[0][0], who=people[1])).status_code == 403
    forged = await ask(kept[0][0], cursor="e30")
    assert forged.status_code == 422
