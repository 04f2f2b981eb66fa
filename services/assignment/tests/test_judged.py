"""A random day on three replicas, judged from what was published by a program that shares nothing with the service."""

import os
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from judging.judge import judge, read

from relevo.assignment.app import build
from relevo.chassis.bus import until
from relevo.chassis.testing import Running, running
from relevo.contracts.base import new_id, now

from .conftest import World, decided
from .test_taken_back import say

CAPACITY = 3
TAKEN_BACK = {"offline": 1, "away": 2}
LIGHTER = (1, 40)
PACE = (CAPACITY, 1)
WEIGHTS = {"email": 50, "whatsapp": 150}
LADDER = ((0, {"pt": 3}), (1, {"pt": 2}), (2, {}))
STATES = ("available", "available", "available", "busy", "away", "offline")


async def answer(one: Running, world: World, who: str, accepts: Callable[[], bool]) -> None:
    """Somebody answers all that they are offered."""
    offered = (await one.http.get("/offers", headers=world.as_(who))).json()["items"]
    for offer in offered:
        path = f"/conversations/{offer['conversation_id']}/offer/"
        if accepts():
            said = await one.http.post(path + "accept", headers=world.as_(who))
        else:
            said = await one.http.post(path + "decline", json={"why": "no_time"}, headers=world.as_(who))
        assert said.status_code in (200, 409), said.text


async def live(one: Running, world: World, dice: random.Random, people: list[str], steps: int) -> None:
    """More conversations come than people can take, who come and go, answer some and resolve some."""
    inboxes = ((world.inbox, "web"), (new_id(), "email"), (new_id(), "whatsapp"))
    for _ in range(steps):
        what = dice.random()
        if what < 0.4:
            inbox, channel = dice.choice(inboxes)
            await world.open(inbox_id=inbox, channel=channel, priority=dice.choice([None, "low", "high", "urgent"]))
        elif what < 0.6 and world.conversations:
            chosen = dice.choice(list(world.conversations))
            if world.conversations[chosen].status == "open":
                await world.resolve(chosen)
        elif what < 0.75 and world.conversations:
            chosen = dice.choice(list(world.conversations))
            if world.conversations[chosen].status == "open":
                await say(world, chosen, "outgoing" if world.conversations[chosen].waiting_since else "incoming")
        elif what < 0.85:
            await answer(one, world, dice.choice(people), lambda: dice.random() < 0.6)
        else:
            await world.status(dice.choice(people), dice.choice(STATES))


async def begin_again(one: Running, world: World, people: list[str], settled: Callable[[], Awaitable[None]]) -> None:
    """Nobody is there and nothing is open; then enough wait for the six who come and have nothing to do."""
    for who in people:
        await world.status(who, "away")
    for id_, known in world.conversations.items():
        if known.status == "open":
            await world.resolve(id_)
    await settled()
    # Two of the six work on this inbox, and carry two of these each.
    came = [await world.open(inbox_id=new_id(), channel="whatsapp") for _ in range(4)]
    await settled()
    assert await until(lambda: widened(world, 2 * len(came)), 30), "nobody is there until anybody will do"
    came += [await world.open() for _ in range(4 * CAPACITY)]
    await settled()
    for who in people[:6]:
        await world.status(who, "available")

    async def all_given() -> bool:
        for who in people[:6]:
            await answer(one, world, who, lambda: True)
        events = await read(world.admin.nats, world.account, ["EVT_ASSIGNMENT"])
        holders = {event.data["conversation_id"]: event.data["assignee_id"] for event in events}
        return all(holders.get(id_) for id_ in came)

    assert await until(all_given, 30), "once what they were given before is long enough ago"
    await settled()


async def widened(world: World, times: int) -> bool:
    """Whether it was told so often that less is needed now."""
    events = await read(world.admin.nats, world.account, ["EVT_ASSIGNMENT"])
    return sum(one.data["reason"]["code"] == "widened" for one in events) >= times


async def leave(world: World, people: list[str], one: Running) -> None:
    """Everybody goes, and what they have is taken back."""
    for who in people[:6]:
        await world.status(who, "offline")

    async def taken_back() -> bool:
        events = await read(one.admin.nats, world.account, ["EVT_ASSIGNMENT"])
        return sum(event.data["reason"]["code"] == "holder_offline" for event in events[-20:]) >= 6

    assert await until(taken_back, 60)
    await decided(one)


async def test_a_day_on_three_replicas_has_no_fault(servers):
    dice = random.Random(int(os.environ.get("RELEVO_TEST_SEED", "1")))
    async with (
        running(build, servers) as one,
        running(build, servers, bus=one.bus, dsn=one.dsn),
        running(build, servers, bus=one.bus, dsn=one.dsn),
    ):
        world = World(one.admin)
        await world.found()
        boss = await world.hire("Boss", "administrator", None)
        some = (world.inbox,)
        people = [await world.hire(f"P{n}", state="away", inbox_ids=some if n % 3 else None) for n in range(12)]
        await decided(one)
        policy = {"strategy": dice.choice(["round_robin", "least_loaded", "longest_idle"]), "busy_as_fallback": False}
        head = world.as_(boss) | {"If-Match": "*"}
        backs = [{"cause": state, "after_seconds": after} for state, after in TAKEN_BACK.items()]
        policy |= {"default_capacity": CAPACITY, "taken_back": [backs[0] | {"raise_priority": True}, backs[1]]}
        policy |= {"channel_weights": {channel: weight / 100 for channel, weight in WEIGHTS.items()}}
        policy |= {"lighter": {"after_seconds": LIGHTER[0], "share": LIGHTER[1] / 100}}
        pace = dice.choice([None, PACE])
        policy |= {"pace": pace and {"most": pace[0], "within_seconds": pace[1]}}
        mail = {"field": "conversation.channel", "operator": "equals", "value": "email"}
        urgent = {"field": "conversation.priority", "operator": "equals", "value": "urgent"}
        policy |= {"rules": [{"name": "u", "when": urgent, "busy_as_fallback": True}]}
        policy["rules"] += [{"name": "m", "when": mail, "strategy": "least_loaded", "hand_over": "offer"}]
        policy |= {"hand_over": dice.choice(["direct", "offer"]), "offer_seconds": 5}
        phone = {"field": "conversation.channel", "operator": "equals", "value": "whatsapp"}
        rings = [{"after_seconds": after, "needs": needs} for after, needs in LADDER[1:]]
        policy["rules"] += [{"name": "s", "when": phone, "needs": LADDER[0][1], "rings": rings}]
        policy["rules"][-1] |= {"strategy": dice.choice(["most_skilled", "round_robin"])}
        can = {who: {"pt": n % 4} if n % 4 else {} for n, who in enumerate(people)}
        for who, levels in can.items():
            set_ = await one.http.put(f"/routing/agents/{who}/skills", json={"skills": levels}, headers=world.as_(boss))
            assert set_.status_code == 200, set_.text
        answer = await one.http.put("/routing/policy", json=policy, headers=head)
        assert answer.status_code == 200, answer.text
        await live(one, world, dice, people, 250)
        await decided(one)
        await begin_again(one, world, people, lambda: decided(one))
        await leave(world, people, one)
        events = await read(one.admin.nats, world.account)
        # All is decided: whoever is still beside a queue would be for ever. Before that, machines may be slow.
        for_ever = now() + timedelta(hours=1)
        more = {"taken_back": TAKEN_BACK, "weights": WEIGHTS, "lighter": LIGHTER, "pace": pace}
        more |= {"skills": can, "ladders": [LADDER]}
        verdict, found = judge(events, capacity=CAPACITY, until=for_ever, idle_seconds=60, **more)
        assert not verdict.faults, verdict.text()
        assert verdict.figures["given by turn out of the queue"] > 10
        assert verdict.figures["taken back from who had gone"] >= 10
        assert verdict.figures["offers accepted"] > 0
        assert len(found.brought) >= 6
