"""A person and the matcher reach for one conversation at the same instant: two replicas, one database, one broker."""

import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from sqlalchemy import text

from relevo.assignment.app import build
from relevo.assignment.store import people
from relevo.chassis.testing import Running, running
from relevo.contracts.assignment import Assign
from relevo.contracts.base import new_id

from .conftest import World, decided

LANES, AT_ONCE = 50, 4
KINDS = ("take", "take", "take if unchanged", "two take if unchanged", "take beside a rule")


@dataclass
class Races:
    """Lanes, each with an inbox and an agent of its own, in one pool."""

    world: World
    replicas: tuple[Running, Running]
    dice: random.Random
    boss: str = ""
    eva: str = ""
    lead: float = 0.01
    """How long before the agent comes somebody takes it by hand, in the middle."""
    outcomes: Counter[str] = field(default_factory=Counter)
    won: dict[str, str | None] = field(default_factory=dict)
    """Who must hold each conversation in the end; None: the agent of its lane, whom the matcher gave it to first."""
    rules: set[str] = field(default_factory=set)
    automatic: dict[str, str] = field(default_factory=dict)
    """By conversation, the agent of its lane."""

    async def run(self, rounds: int) -> None:
        """Each round, in every lane, a conversation that waits, an agent who comes, and somebody who takes it by hand."""
        world = self.world
        self.boss = await world.hire("Boss", "administrator", None)
        self.eva = await world.hire("Eva", "administrator", None)
        inboxes = [new_id() for _ in range(LANES)]
        lanes = {inbox: await world.hire(inbox[-4:], state="away", inbox_ids=(inbox,)) for inbox in inboxes}
        at_once = asyncio.Semaphore(AT_ONCE)
        for _ in range(rounds):
            await decided(self.replicas[0])
            ones = {await world.open(inbox_id=inbox): agent for inbox, agent in lanes.items()}
            await decided(self.replicas[0])
            self.automatic |= ones
            async with asyncio.TaskGroup() as group:
                for one, agent in ones.items():
                    group.create_task(self._race(one, agent, at_once))
            for one, agent in ones.items():
                await world.status(agent, "away")
                await world.resolve(one)

    async def _race(self, one: str, agent: str, at_once: asyncio.Semaphore) -> None:
        kind = self.dice.choice(KINDS)
        async with at_once:
            _, *answers = await asyncio.gather(
                self._order(one, agent) if kind == "take beside a rule" else self._come(agent),
                *(self._take(one, who, replica, kind) for who, replica in self._hands(kind)),
            )
        first = self._judge(one, kind, answers)
        # So that each is first about as often.
        self.lead += 0.003 if first == "automatic" else -0.003

    async def _order(self, one: str, agent: str) -> None:
        """A rule gives it to the agent, by what it saw before."""
        self.rules.add(one)
        await asyncio.sleep(max(self.lead, 0))
        wish = Assign(conversation_id=one, assignee_id=agent, seen_version=1)
        await self.world.admin.publish(wish, account=self.world.account, entity=one, actor="rule:r")

    async def _come(self, agent: str) -> None:
        await asyncio.sleep(max(self.lead, 0))
        await self.world.status(agent, "available")

    def _hands(self, kind: str) -> list[tuple[str, Running]]:
        first, second = self.dice.sample(self.replicas, 2)
        return [(self.boss, first), (self.eva, second)] if kind == "two take if unchanged" else [(self.boss, first)]

    async def _take(self, one: str, who: str, replica: Running, kind: str) -> tuple[str, httpx.Response]:
        await asyncio.sleep(max(-self.lead, 0) + self.dice.uniform(0, 0.005))
        body = {"assignee_id": "me"} | ({"version": 1} if "unchanged" in kind else {})
        head = self.world.as_(who)
        return who, await replica.http.post(f"/conversations/{one}/assignment", json=body, headers=head)

    def _judge(self, one: str, kind: str, answers) -> str:
        """What everybody was answered; tells who was first."""
        won = [(who, answer) for who, answer in answers if answer.status_code == 200]
        for _, answer in answers:
            assert answer.status_code in (200, 409), answer.text
        if kind in ("take", "take beside a rule"):
            ((who, answer),) = won
            self.won[one] = who
            first = "automatic" if answer.json()["version"] == 3 else "hand"
        elif won:
            ((who, answer),) = won
            assert answer.json()["version"] == 2
            self.won[one], first = who, "hand"
        else:
            self.won[one], first = None, "automatic"
        for who, answer in answers:
            if answer.status_code == 409:
                told = answer.json()
                assert told["code"] == "version_conflict"
                holder = self.automatic[one] if self.won[one] is None else self.won[one]
                assert told["current"]["assignee_id"] == holder != who, "the loser is told who has it"
        self.outcomes[f"{kind}: {first}"] += 1
        return first


async def judge(races: Races) -> None:
    """From what was published and stored: whoever acted by hand has it, and each act is told once."""
    replica = races.replicas[0]
    await decided(replica)
    told = defaultdict(list)
    for _, headers, body in await replica.admin.stored("EVT_ASSIGNMENT"):
        told[headers["ce-subject"]].append(json.loads(body) | {"type": headers["ce-type"].split(".")[-2]})
    for one, winner in races.won.items():
        events, agent = told[one], races.automatic[one]
        assert [event["version"] for event in events] == list(range(1, len(events) + 1)), one
        acts = [(event["mode"], event["from_assignee_id"], event["assignee_id"]) for event in events[1:]]
        mode = "automation" if one in races.rules else "automatic"
        automatic, by_hand = (mode, None, agent), ("manual", None, winner)
        if winner is None:
            assert acts == [automatic], one
        else:
            # Either nothing automatic came before or after it; or it takes it from the agent, who is told by its name in it.
            assert acts in ([by_hand], [automatic, ("manual", agent, winner)]), one
    async with replica.runtime.database.begin(races.world.account) as tx:
        assert await people.wrong_loads(tx) == []
        failed = (await tx.execute(text("select error from journal where error is not null"))).scalars()
        # A rule that came too late is told so where what it asked for is kept.
        assert set(failed) <= {"hand_was_first"}


@pytest.fixture
async def races(servers) -> AsyncIterator[Races]:
    async with running(build, servers) as one, running(build, servers, bus=one.bus, dsn=one.dsn) as two:
        world = World(one.admin)
        await world.found()
        yield Races(world, (one, two), random.Random(int(os.environ.get("RELEVO_TEST_SEED", "1"))))


async def test_by_hand_stands_the_loser_is_told_and_each_act_is_told_once(races):
    await races.run(int(os.environ.get("RELEVO_TEST_ROUNDS", "2")))
    await judge(races)


@pytest.mark.deep
@pytest.mark.timeout(3600)
async def test_ten_thousand_times(races):
    await races.run(200)
    await judge(races)
    # Both were first, many times: else nothing raced.
    for kind in set(KINDS):
        for first in ("automatic", "hand"):
            assert races.outcomes[f"{kind}: {first}"] > 100, races.outcomes
