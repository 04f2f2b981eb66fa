"""Whose customer somebody is, from events to decisions: each case that may come, and what a bot has first."""

import pytest

from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ConversationReopened, ConversationTakenOver
from relevo.contracts.snapshots import ContactSnapshot

from .test_assignment import assert_consistent, holder, told


async def policy(service, world, boss, **changes):
    who = world.as_(boss)
    wish = (await service.http.get("/routing/policy", headers=who)).json() | changes
    del wish["version"]
    given = await service.http.put("/routing/policy", json=wish, headers=who | {"If-Match": "*"})
    assert given.status_code == 200, given.text


def of(agent=None, team=None):
    return ContactSnapshot(id=new_id(), owner_id=agent, owner_team_id=team)


@pytest.fixture
async def people(world, settled):
    boss = await world.hire("Boss", "administrator", None)
    team = await world.team("Ventas")
    ana, bea = await world.hire("Ana"), await world.hire("Bea")
    eva = await world.hire("Eva", team_ids=(team,))
    await settled()
    return boss, team, ana, bea, eva


async def test_the_owner_s_conversations_in_every_case(service, world, settled, people):
    boss, team, ana, bea, eva = people

    async def goes(contact) -> tuple[str, str | None, str]:
        one = await world.open(contact=contact)
        await settled()
        last = (await told(service, one))[-1]
        await world.resolve(one)
        await settled()
        return last["type"], last["assignee_id"], last["reason"]["code"]

    # There: the owner, whoever's turn it is.
    for _ in range(3):
        assert await goes(of(bea)) == ("conversation_assigned", bea, "owner")
    # A team: one of its members.
    assert (await goes(of(team=team)))[1] == eva
    # Nobody's: whoever's turn it is.
    kind, agent, why = await goes(of())
    assert (kind, agent in (ana, bea, eva), why) == ("conversation_assigned", True, "round_robin")
    # Full: it does not wait for them, whatever the policy says of owners who are not there.
    await policy(service, world, boss, owner_absent="wait")
    await service.http.put(f"/routing/agents/{bea}/capacity", json={"capacity": 1}, headers=world.as_(boss))
    await settled()
    full = await world.open(contact=of(bea))
    await settled()
    assert (await told(service, full))[-1]["assignee_id"] == bea
    assert (await goes(of(bea)))[1] in (ana, eva)
    await world.resolve(full)
    # Not there: it lies in the inbox, and is theirs when they come.
    await world.status(bea, "offline")
    await settled()
    assert await goes(of(bea)) == ("conversation_unassigned", None, "owner_absent")
    waiting = await world.open(contact=of(bea))
    await settled()
    await world.status(bea, "available")
    await settled()
    assert (await told(service, waiting))[-1]["assignee_id"] == bea
    # Or it goes to anyone, where the policy says so.
    await policy(service, world, boss, owner_absent="anyone")
    await world.status(bea, "offline")
    await settled()
    assert (await goes(of(bea)))[1] in (ana, eva)
    # Owners do not count at all.
    await policy(service, world, boss, owner_first=False)
    await world.status(bea, "available")
    await settled()
    assert "owner" not in {(await goes(of(bea)))[2] for _ in range(3)}
    await assert_consistent(service)


async def test_a_transfer_keeps_the_owner_who_gets_it_again(service, world, settled, people):
    boss, _, ana, bea, _ = people
    one = await world.open(contact=of(bea))
    await settled()
    moved = await service.http.post(
        f"/conversations/{one}/assignment", json={"assignee_id": ana}, headers=world.as_(boss)
    )
    assert moved.status_code == 200, moved.text
    await settled()
    assert (await holder(service, world, one, boss))["assignee_id"] == ana
    await world.resolve(one)
    await world.reopen(one)
    await settled()
    assert ((await told(service, one))[-1]["assignee_id"], (await told(service, one))[-1]["reason"]["code"]) == (
        bea,
        "owner",
    )


async def test_what_a_bot_has_waits_for_nobody_until_people_are_to_have_it(service, world, settled, people):
    boss, _, ana, bea, eva = people
    for agent in (ana, bea, eva):
        await world.status(agent, "away")
    plain, owned = await world.open(status="pending"), await world.open(status="pending", contact=of(bea))
    await settled()
    assert await told(service) == []
    assert (await service.http.get("/queue", headers=world.as_(boss))).json()["items"] == []
    since = now()
    for one in (plain, owned):
        await world.change_to(ConversationTakenOver, one, status="open", people_since=since)
    await settled()
    (queued,) = await told(service, plain)
    assert (queued["type"], queued["queued_at"][:19]) == ("conversation_queued", since.isoformat()[:19])
    await world.status(ana, "available")
    await settled()
    assert (await told(service, plain))[-1]["assignee_id"] == ana
    await world.status(bea, "available")
    await settled()
    # Another one that began again with a bot, and was handed over.
    await world.resolve(owned)
    await world.change_to(ConversationReopened, owned, status="pending", opened_at=now())
    await settled()
    before = len(await told(service, owned))
    await world.change_to(ConversationTakenOver, owned, status="open", people_since=now())
    await settled()
    after = await told(service, owned)
    assert len(after) == before + 1
    assert (after[-1]["assignee_id"], after[-1]["reason"]["code"]) == (bea, "owner")
    # Somebody gave it to the bot by hand and took it back: it is theirs all the time.
    await world.change_to(ConversationTakenOver, plain, status="open")
    await settled()
    assert (await holder(service, world, plain, boss))["assignee_id"] == ana
    await assert_consistent(service)
