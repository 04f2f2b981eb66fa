"""Who sees which conversation, asked of every place that tells: while roles, teams, inboxes and holders change at random.

Three services on one bus. What lists, details, messages, counts and search show, whose sockets hear of a conversation,
and whom notification tells, must all be what the one rule (kernel.access) says of the rights and the facts of that moment.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from relevo.chassis.bus import until
from relevo.chassis.testing import Organisation, Running, running, serving
from relevo.contracts import identity, streams
from relevo.contracts.assignment import ConversationAssigned, ConversationUnassigned, Reason
from relevo.contracts.base import new_id, now
from relevo.contracts.inbound import Content, Sender
from relevo.contracts.ingest import InboxState, MessageReceived
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation.app import build as conversation
from relevo.kernel.access import ConversationFacts, Viewer, may_see
from relevo.kernel.identity import sender_key
from relevo.notification.app import build as notification
from relevo.realtime.app import build as realtime
from relevo.stack.testing import TestServers

PEOPLE: Final = 5
TALKS: Final = 6
AT_ONCE: Final = 2.0
"""Seconds within which a socket follows a change of rights."""
REASON: Final = Reason(code="manual", es="a mano", en="by hand")
FACTS: Final = "id, account_id, inbox_id, team_id, assignee_id, participant_ids, owner_id"


class Browser:
    """What an agent's browser shows: a list taken once, and from then on what the socket tells."""

    def __init__(self, connection: ClientConnection, world: "World", agent: str) -> None:
        self.connection, self.world, self.agent = connection, world, agent
        self.shown: set[str] = set()
        self.heard: list[dict[str, Any]] = []
        self.resyncs = 0
        self._pongs = asyncio.Event()

    async def read(self) -> None:
        """Follow until the socket is closed."""
        with contextlib.suppress(ConnectionClosed):
            async for raw in self.connection:
                told = json.loads(raw)
                match told["type"]:
                    case "hello" | "resync":
                        self.resyncs += told["type"] == "resync"
                        self.shown = await self.world.listed(self.agent)
                    case "pong":
                        self._pongs.set()
                    case "hidden":
                        self.shown.discard(told["id"])
                    case _ if told.get("conversation_id") and "conversation" in told["data"]:
                        self.heard.append(told)
                        self.shown.add(told["conversation_id"])

    async def settle(self) -> None:
        """Everything that was put into the socket so far is read."""
        self._pongs.clear()
        await self.connection.send('{"type": "ping"}')
        await asyncio.wait_for(self._pongs.wait(), 10)

    def news(self) -> set[str]:
        """The conversations in which a message was heard of since this was asked last."""
        heard, self.heard = self.heard, []
        return {one["conversation_id"] for one in heard if one["type"] == "message_created"}


class World:
    """An account with people of random rights, its conversations, and what should be true of both."""

    def __init__(self, services: dict[str, Running], port: int, chance: random.Random) -> None:
        self.services, self.port, self.chance = services, port, chance
        self.org = Organisation(services["conversation"].admin)
        self.teams = [new_id() for _ in range(2)]
        self.inboxes = [InboxState(id=new_id(), account_id=self.org.account, name="x", channel="api") for _ in range(3)]
        self.people: list[str] = []
        self.boss = ""
        self.facts: dict[str, ConversationFacts] = {}
        self.browsers: dict[str, Browser] = {}
        self.slowest = 0.0
        self._senders: dict[str, tuple[InboxState, str]] = {}
        self._versions: dict[str, int] = {}
        self._told = 0
        self._said = 0

    # -- rights ---------------------------------------------------------------------------------------------------------

    def viewer(self, agent: str) -> Viewer:
        """The rights that this agent has been given."""
        one = self.org.people[agent]
        role = next(role for role in self.org.roles.values() if role.id == one.role_id)
        inboxes = None if one.inbox_ids is None else frozenset(one.inbox_ids)
        return Viewer(self.org.account, agent, role.permissions, role.scope, frozenset(one.team_ids), inboxes)

    def seen(self, agent: str) -> set[str]:
        """What the rule says that this agent sees."""
        return {id_ for id_, facts in self.facts.items() if may_see(self.viewer(agent), facts)}

    def some_role(self, id_: str) -> identity.RoleState:
        rights = {Permission.CONVERSATIONS_REPLY, Permission.CONVERSATIONS_NOTE}
        if self.chance.random() < 0.85:
            rights.add(Permission.CONVERSATIONS_READ)
        scope = self.chance.choice(list(ConversationScope))
        return identity.RoleState(id=id_, account_id=self.org.account, name=id_, permissions=rights, scope=scope)

    def some_teams(self) -> tuple[str, ...]:
        return tuple(self.chance.sample(self.teams, self.chance.randrange(3)))

    def some_inboxes(self) -> tuple[str, ...] | None:
        found = [inbox.id for inbox in self.chance.sample(self.inboxes, self.chance.randrange(4))]
        return self.chance.choice([None, tuple(found), tuple(found)])

    async def found(self) -> None:
        """People, and conversations of every kind."""
        await self.org.found()
        self.boss = await self.org.hire("Boss", "administrator")
        for number in range(PEOPLE):
            role = self.some_role(new_id())
            self.org.roles[role.id] = role
            await self.org.tell(identity.RoleChanged(role=role), role.id)
            given = {"team_ids": self.some_teams(), "inbox_ids": self.some_inboxes()}
            self.people.append(await self.org.hire(f"P{number}", role.id, **given))
        for number in range(TALKS):
            sender = f"s{number}"
            self._senders[sender] = (self.chance.choice(self.inboxes), sender)
            await self.customer_writes(sender)
        await self.settle()
        items = (await self.ask(self.boss, "/conversations", limit=200)).json()["items"]
        self._senders = {item["id"]: self._senders[item["source_id"]] for item in items}
        self.facts = {item["id"]: ConversationFacts(self.org.account, item["inbox_id"]) for item in items}
        # Nobody sets owners yet: they are put where they will stand, and the next event of each carries them.
        owners = {id_: self.chance.choice([None, None, *self.people]) for id_ in self.facts}
        async with self.services["conversation"].runtime.database.begin(self.org.account) as tx:
            for id_, owner in owners.items():
                change = "update conversations set owner_id = cast(:owner as uuid) where id = cast(:id as uuid)"
                await tx.execute(text(change), {"owner": owner, "id": id_})
        for id_, owner in owners.items():
            self.facts[id_] = ConversationFacts(self.org.account, self.facts[id_].inbox_id, owner_id=owner)
            for body in ({"add": [self.boss]}, {"remove": [self.boss]}):
                await self.ask(self.boss, f"/conversations/{id_}/participants", body)
            await self.hand_over(id_)

    # -- what happens -----------------------------------------------------------------------------------------------------

    async def customer_writes(self, id_: str) -> None:
        inbox, sender = self._senders[id_]
        self._said += 1
        said = MessageReceived(
            inbox=inbox,
            sender_key=sender_key(sender),
            sender=Sender(id=sender, name=sender),
            external_id=new_id(),
            content=Content(text="principio" if self._said <= TALKS else f"Hola {self._said}"),
            occurred_at=now(),
            received_at=now(),
        )
        await self.org.tell(said, f"{inbox.id}_{sender_key(sender)}")

    async def hand_over(self, id_: str) -> None:
        """Another agent, another team, or none."""
        agent, team = self.chance.choice([None, None, *self.people]), self.chance.choice([None, *self.teams])
        self._versions[id_] = self._versions.get(id_, 0) + 1
        event = ConversationAssigned if agent else ConversationUnassigned
        told = event(
            conversation_id=id_,
            version=self._versions[id_],
            assignee_id=agent,
            team_id=team,
            mode="manual",
            reason=REASON,
        )
        await self.org.tell(told, id_)
        self.facts[id_] = self.changed(id_, assignee_id=agent, team_id=team)

    async def take_part(self, id_: str) -> None:
        """Somebody joins, or leaves."""
        agent = self.chance.choice(sorted(self.facts[id_].participant_ids) or self.people)
        present = self.facts[id_].participant_ids
        body = {"remove": [agent]} if agent in present else {"add": [agent]}
        answer = await self.ask(self.boss, f"/conversations/{id_}/participants", body)
        assert answer.status_code == 200, answer.text
        self.facts[id_] = self.changed(id_, participant_ids=present ^ {agent})

    def reads(self, agent: str) -> bool:
        """Whether taking part lets them see a conversation."""
        viewer = self.viewer(agent)
        return Permission.CONVERSATIONS_READ in viewer.permissions and viewer.scope is not ConversationScope.NONE

    async def mention(self, id_: str) -> None:
        """A note mentions somebody, who takes part from then on and is told; nobody who may see no conversation at all."""
        strangers = [one for one in self.people if id_ not in self.seen(one)]
        agent = self.chance.choice([one for one in strangers if self.reads(one)] or strangers or self.people)
        body = {"text": f"Hola {agent}", "private": True, "mentions": [f"agent:{agent}"]}
        answer = await self.ask(self.boss, f"/conversations/{id_}/messages", body)
        if not self.reads(agent):
            assert (answer.status_code, answer.json()["code"]) == (422, "unknown_mention"), answer.text
            return
        assert answer.status_code == 201, answer.text
        self.facts[id_] = self.changed(id_, participant_ids=self.facts[id_].participant_ids | {agent})
        await self.settle()
        assert await self.told("mention") == {(agent, id_)} & self.sights()

    async def edit_role(self) -> None:
        """Everybody's who has it: so that somebody sees something else, where the draw finds such a change."""
        before = self.sights()
        for _ in range(30):
            id_ = self.org.people[self.chance.choice(self.people)].role_id
            present, role = self.org.roles[id_], self.some_role(id_)
            self.org.roles[id_] = role
            if self.sights() != before:
                break
            self.org.roles[id_] = present
        await self.org.tell(identity.RoleChanged(role=self.org.roles[id_]), id_)

    async def edit_agent(self) -> None:
        """Other teams, other inboxes, or another role."""
        before = self.sights()
        for _ in range(30):
            agent = self.org.people[self.chance.choice(self.people)]
            given = self.chance.choice(
                [
                    {"team_ids": self.some_teams()},
                    {"inbox_ids": self.some_inboxes()},
                    {"role_id": self.org.people[self.chance.choice(self.people)].role_id},
                ]
            )
            self.org.people[agent.id] = agent.model_copy(update=given)
            if self.sights() != before:
                break
            self.org.people[agent.id] = agent
        await self.org.change(self.org.people[agent.id])

    async def rights_change(self, change: Callable[[], Awaitable[None]]) -> None:
        """Whoever has other rights now has a socket that follows at once."""
        before = {agent: (self.viewer(agent), self.browsers[agent].resyncs) for agent in self.people}
        started = time.monotonic()
        await change()
        other = {agent: resyncs for agent, (rights, resyncs) in before.items() if self.viewer(agent) != rights}

        async def told() -> bool:
            return all(self.browsers[agent].resyncs > resyncs for agent, resyncs in other.items())

        assert await until(told, AT_ONCE, every=0.01), f"a socket went on for {AT_ONCE} s with rights that were gone"
        self.slowest = max(self.slowest, time.monotonic() - started if other else 0.0)

    async def something_changes(self, number: int) -> None:
        """Each kind of change in turn, of anybody's rights or of any conversation's facts."""
        of_rights, of_facts = (self.edit_role, self.edit_agent), (self.mention, self.hand_over, self.take_part)
        if number % 2:
            await self.rights_change(of_rights[number // 2 % 2])
        else:
            await of_facts[number // 2 % 3](self.chance.choice(sorted(self.facts)))

    def changed(self, id_: str, **given: Any) -> ConversationFacts:
        facts = self.facts[id_]
        fields = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
        return ConversationFacts(**{**fields, **given})

    # -- what is told -----------------------------------------------------------------------------------------------------

    async def ask(self, agent: str, path: str, body: Any = None, *, of: str = "conversation", **query: Any) -> Any:
        http = self.services[of].http
        if body is None:
            return await http.get(path, headers=self.org.as_(agent), params=query or None)
        return await http.post(path, headers=self.org.as_(agent), json=body)

    async def listed(self, agent: str) -> set[str]:
        answer = await self.ask(agent, "/conversations", limit=200)
        return {item["id"] for item in answer.json()["items"]} if answer.status_code == 200 else set()

    async def told(self, kind: str) -> set[tuple[str, str]]:
        """Who was told of which conversation since this was asked last."""
        stored = await self.services["notification"].admin.stored("EVT_NOTIFICATION")
        fresh, self._told = stored[self._told :], len(stored)
        bodies = [json.loads(body) for _, headers, body in fresh if "notification_created" in headers["ce-type"]]
        return {(one["agent_id"], one["conversation_id"]) for one in bodies if one["kind"] == kind}

    def sights(self) -> set[tuple[str, str]]:
        return {(agent, id_) for agent in self.people for id_ in self.seen(agent)}

    async def settle(self) -> None:
        """Every service has handled what was said, and every browser has read it."""
        for service in self.services.values():
            await service.settle()
        hub = self.services["realtime"].runtime.extra["hub"]
        last = (await self.services["realtime"].runtime.bus.stream_state(streams.EVT_CONVERSATION))["last_seq"]

        async def followed() -> bool:
            return not hub.following or hub.position().conversation >= last

        assert await until(followed, 10, every=0.01)
        await asyncio.gather(*(browser.settle() for browser in self.browsers.values()))

    # -- whether it agrees --------------------------------------------------------------------------------------------------

    async def agree(self) -> None:
        await self.settle()
        self.projections_agree()
        for agent in self.people:
            await self.answers_agree(agent)
            assert self.browsers[agent].shown == self.seen(agent), "what a browser shows, by events alone"
            self.browsers[agent].news()
            # What is unread is counted and not told again.
            await self.ask(agent, "/notifications/read-all", {}, of="notification")
        await self.told("")
        for id_ in self.facts:
            await self.customer_writes(id_)
        await self.settle()
        for agent in self.people:
            assert self.browsers[agent].news() == self.seen(agent), "whose sockets hear of a message"
            mine = (await self.ask(agent, "/notifications", of="notification", limit=200)).json()["items"]
            assert {one["conversation_id"] for one in mine} <= self.seen(agent)
        working = {
            (agent, id_)
            for id_, facts in self.facts.items()
            for agent in {facts.assignee_id, *facts.participant_ids} - {None}
        }
        assert await self.told("message") == working & self.sights(), "whom notification tells"

    async def answers_agree(self, agent: str) -> None:
        answers = {name: await self.ask(agent, path) for name, path in self.paths().items()}
        if Permission.CONVERSATIONS_READ not in self.viewer(agent).permissions:
            assert {answer.status_code for answer in answers.values()} == {403}
            return
        seen = self.seen(agent)
        found = {name: answer.json() for name, answer in answers.items()}
        assert {item["id"] for item in found["list"]["items"]} == seen
        assert found["counts"]["open"]["count"] == found["count"]["count"] == len(seen)
        mine = {id_ for id_ in seen if self.facts[id_].assignee_id == agent}
        assert found["counts"]["mine"]["count"] == len(mine)
        assert {hit["conversation_id"] for hit in found["search"]["items"]} == seen
        assert {item["message"]["conversation_id"] for item in found["mentions"]["items"]} <= seen
        for id_ in self.facts:
            assert answers[id_].status_code == (200 if id_ in seen else 404)
        some = self.chance.choice(sorted(self.facts))
        messages = await self.ask(agent, f"/conversations/{some}/messages", limit=1)
        assert messages.status_code == (200 if some in seen else 404)

    def paths(self) -> dict[str, str]:
        """Where conversations are told of."""
        found = {
            "list": "/conversations?limit=200",
            "counts": "/conversations/counts",
            "count": "/conversations/count",
            "search": "/search/messages?q=principio&limit=50",
            "mentions": "/mentions?limit=200",
        }
        for id_ in self.facts:
            found[id_] = f"/conversations/{id_}"
        return found

    def projections_agree(self) -> None:
        """What realtime and notification keep of conversations is what the owner's rows say."""
        wanted = self.rows("conversation", "conversations")
        assert wanted == self.rows("realtime", "conversation_facts") == self.rows("notification", "conversation_facts")
        assert len(wanted) == len(self.facts)

    def rows(self, service: str, table: str) -> list[Any]:
        with psycopg.connect(self.services[service].dsn) as connection:
            return connection.execute(f"select {FACTS} from {table} order by id").fetchall()


@asynccontextmanager
async def world(servers: TestServers, chance: random.Random) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(conversation, servers))
        # That sockets follow a change of rights is not owed to looking often.
        rarely = {"RELEVO_REJUDGE_SECONDS": "60"}
        sockets = await stack.enter_async_context(running(realtime, servers, bus=first.bus, **rarely))
        mails = await stack.enter_async_context(running(notification, servers, bus=first.bus))
        port = await stack.enter_async_context(serving(sockets))
        made = World({"conversation": first, "realtime": sockets, "notification": mails}, port, chance)
        await made.found()
        await made.settle()
        for agent in made.people:
            answer = await made.ask(agent, "/socket/tickets", {}, of="realtime")
            address = f"ws://127.0.0.1:{port}/api/v1/socket?ticket={answer.json()['ticket']}"
            browser = Browser(await stack.enter_async_context(connect(address)), made, agent)
            made.browsers[agent] = browser
            task = asyncio.create_task(browser.read())
            stack.callback(task.cancel)
        yield made


async def all_agree(servers: TestServers, seed: int, changes: int) -> None:
    chance = random.Random(seed)
    async with world(servers, chance) as made:
        await made.agree()
        sights = [made.sights()]
        for number in range(changes):
            await made.something_changes(number)
            await made.agree()
            sights.append(made.sights())
        assert any(sights), "the draw shows something"
        assert len({frozenset(one) for one in sights}) > changes // 4, "the changes change something"
        print(f"seed {seed}: {changes} changes, sockets followed within {made.slowest:.2f} s")


async def test_every_place_shows_the_same_while_everything_changes(servers: TestServers) -> None:
    await all_agree(servers, 4, 5)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
async def test_every_place_shows_the_same_while_everything_changes_for_long(servers: TestServers, seed: int) -> None:
    await all_agree(servers, 100 + seed, 40)
