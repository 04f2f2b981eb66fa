"""Bots: first in their inbox, told over the bus, answering over HTTP with least rights, left to people with a reason."""

import asyncio
import importlib.util
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from sqlalchemy import text

from relevo.adapter.bot import Bot
from relevo.chassis.auth import new_key
from relevo.chassis.bus import until
from relevo.chassis.testing import running, serving
from relevo.contracts.base import new_id
from relevo.contracts.grants import bot_grants
from relevo.contracts.identity import KeyState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.contracts.streams import OUTBOUND
from relevo.conversation.app import build
from relevo.conversation.bots import BOT
from relevo.conversation.domain import bots
from relevo.conversation.domain.bots import MOST_IN_A_ROW, goes_first

from .conftest import Desk, World

EXAMPLE = Path(__file__).parents[3] / "libs/adapter/examples/menu_bot.py"
BOSS = "administrator"


def key_of(world, inbox, name="Menú"):
    """A bot's key as identity would make it known, and the key itself."""
    key = new_key("bot")
    state = KeyState(
        id=key.id, account_id=world.account_id, kind="bot", name=name, sha256=key.sha256, inbox_id=inbox.id
    )
    return state, {"authorization": f"Bearer {key.plain}", "accept-language": "en"}, key.plain


# -- which conversations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "attached", "human", "owner", "skips", "gets"),
    [
        (True, True, True, {}, False, True),
        (True, True, True, {}, True, True),
        (False, True, True, {}, False, False),
        (True, False, True, {}, False, False),  # there is none: nobody would answer
        (True, True, False, {}, False, False),  # a machine wrote
        (True, True, True, {"owner_id": new_id()}, False, True),
        (True, True, True, {"owner_id": new_id()}, True, False),
        (True, True, True, {"owner_team_id": new_id()}, False, True),
        (True, True, True, {"owner_team_id": new_id()}, True, False),
    ],
)
def test_who_gets_a_conversation_first(*, first, attached, human, owner, skips, gets):
    inbox = World().make_inbox(bot_first=first, bot_skips_owned=skips)
    contact = ContactSnapshot(id=new_id(), **owner)
    assert goes_first(inbox, contact, attached=attached, human=human) is gets


# -- at the desk ----------------------------------------------------------------------------------------------------


class Scene:
    """A running service whose inbox has a bot, somebody who sees everything, and customers."""

    def __init__(self, desk, bot, plain, state) -> None:
        self.desk, self.bot, self.plain, self.state = desk, bot, plain, state
        self.boss: dict[str, str] = {}

    async def open(self, **more):
        await self.desk.know("inbox", self.desk.world.inbox)
        _, self.boss = await self.desk.agent(BOSS)
        return self

    async def writes(self, text="Hola", **more) -> str:
        return await self.desk.begun(self.boss, text, **more)

    async def seen(self, path):
        return (await self.desk.get(path, self.boss)).json()

    async def acts(self, path, act, body=None, bot=None, **headers):
        return await self.desk.post(f"/bot{path}/{act}", bot or self.bot, body, **headers)

    async def told(self) -> list[dict]:
        stored = await self.desk.service.admin.stored("OUTBOUND")
        return [json.loads(body) for subject, _, body in stored if subject.endswith(".bot")]

    async def events(self, kind) -> list[dict]:
        stored = await self.desk.service.admin.stored("EVT_CONVERSATION")
        return [json.loads(body) for subject, _, body in stored if subject.endswith(f".{kind}")]

    async def ring(self, path) -> None:
        """The bot's time is over."""
        key = path.rpartition("/")[2]
        async with self.desk.service.runtime.database.begin(self.desk.world.account_id) as tx:
            due = (
                "update timers set due_at = now() - interval '1 second' where kind = :kind and key = :key returning key"
            )
            assert (await tx.execute(text(due), {"kind": BOT, "key": key})).first(), "no clock is running"

        async def open_() -> bool:
            return (await self.seen(path))["status"] == "open"

        assert await until(open_, 30)
        await self.desk.service.settle()

    async def waits(self, path) -> bool:
        """Whether the bot is to answer."""
        return await self.due(path) is not None

    async def due(self, path):
        """Until when."""
        async with self.desk.service.runtime.database.begin(self.desk.world.account_id) as tx:
            found = await tx.execute(
                text("select due_at from timers where kind = :kind and key = :key"),
                {"kind": BOT, "key": path.rpartition("/")[2]},
            )
            return found.scalar_one_or_none()


@pytest.fixture
def at_bots(servers):
    """Run an async test body with a Scene."""

    @asynccontextmanager
    async def scene():
        world = World()
        world.inbox = world.make_inbox(bot_first=True)
        state, bot, plain = key_of(world, world.inbox)
        async with running(build, servers) as service:
            desk = Desk(service, world)
            await desk.know("key", state)
            yield await Scene(desk, bot, plain, state).open()

    def runner(body):
        async def main():
            async with scene() as one:
                await body(one)

        asyncio.run(main())

    return runner


def test_a_bot_has_it_first_answers_and_leaves_it_to_people_with_a_note(at_bots):
    async def body(one):
        path = await one.writes("Quiero una cosa")
        assert (await one.seen(path))["status"] == "pending"
        (told,) = await one.told()
        assert (told["kind"], told["text"], told["bot_id"]) == ("message", "Quiero una cosa", one.state.id)
        assert await one.waits(path)
        said = await one.acts(path, "messages", {"text": "¿Cuál?"}, idempotency_key="a")
        assert said.status_code == 201, said.text
        again = await one.acts(path, "messages", {"text": "¿Cuál?"}, idempotency_key="a")
        assert again.json() == said.json()
        assert not await one.waits(path)
        read = (await one.desk.get(f"/bot{path}/messages", one.bot)).json()["items"]
        assert [(m["from_customer"], m["text"]) for m in read] == [(True, "Quiero una cosa"), (False, "¿Cuál?")]
        note = {"reason": "customer_asked", "note": "Quiere una cosa, no sabe cuál."}
        done = await one.acts(path, "hand-over", note)
        assert (done.status_code, done.json()["status"]) == (200, "open")
        await one.desk.service.settle()
        (event,) = await one.events("conversation_taken_over")
        assert event["reason"] == "customer_asked"
        assert event["conversation"]["people_since"] is not None
        items = (await one.seen(f"{path}/messages"))["items"]
        assert [m["text"] for m in items if m["kind"] == "note"] == ["Quiere una cosa, no sabe cuál."]
        assert items[-1]["text"] == "Menú pasó la conversación al equipo: el cliente pidió hablar con una persona."
        assert [one_["kind"] for one_ in await one.told()] == ["message", "over"]
        late = await one.acts(path, "messages", {"text": "Sigo aquí"})
        assert (late.status_code, late.json()["code"]) == (409, "conversation_not_pending")
        assert (await one.acts(path, "hand-over", note)).status_code == 409
        assert (await one.acts(path, "resolve")).status_code == 409
        unread = await one.desk.get(f"/bot{path}/messages", one.bot)
        assert (unread.status_code, unread.json()["code"]) == (409, "conversation_not_pending")
        await one.desk.customer_writes(text="¿Hola?")
        assert len(await one.told()) == 2, "people have it"

    at_bots(body)


def test_what_is_the_team_s_is_not_the_bot_s(at_bots):
    async def body(one):
        path = await one.writes()
        await one.desk.post(f"{path}/messages", one.boss, {"text": "secreto", "private": True})
        await one.desk.customer_writes(text="¿Hola?")
        shown = await one.desk.get(f"/bot{path}/messages", one.bot)
        assert "secreto" not in shown.text
        assert "secreto" not in json.dumps(await one.told())
        for where in (path, f"{path}/messages", "/conversations", "/contacts"):
            refused = await one.desk.get(where, one.bot)
            assert (refused.status_code, refused.json()["code"]) == (403, "wrong_credential")
        written = await one.desk.post(f"{path}/messages", one.bot, {"text": "x", "private": True})
        assert written.json()["code"] == "wrong_credential"
        person = await one.acts(path, "messages", {"text": "x"}, bot=one.boss)
        assert (person.status_code, person.json()["code"]) == (403, "wrong_credential")
        elsewhere = one.desk.world.make_inbox(bot_first=True)
        await one.desk.know("inbox", elsewhere)
        state, stranger, _ = key_of(one.desk.world, elsewhere)
        await one.desk.know("key", state)
        for act, body in (("messages", {"text": "x"}), ("hand-over", {"reason": "cannot_help"}), ("resolve", None)):
            assert (await one.acts(path, act, body, bot=stranger)).status_code == 404
        assert (await one.desk.get(f"/bot{path}/messages", stranger)).status_code == 404
        others = World()
        state, foreign, _ = key_of(others, one.desk.world.inbox)
        await one.desk.know("key", state, others.account_id)
        assert (await one.acts(path, "messages", {"text": "x"}, bot=foreign)).status_code == 404

    at_bots(body)


def test_a_silent_bot_loses_it_to_people_and_one_that_is_gone_too(at_bots):
    async def body(one):
        path = await one.writes()
        due = await one.due(path)
        await one.desk.customer_writes(text="¿Hola?")
        assert await one.due(path) == due, "who writes on does not wait longer"
        await one.ring(path)
        (event,) = await one.events("conversation_taken_over")
        assert (event["reason"], (await one.desk.lines(path, one.boss))[-1]) == (
            "silent",
            "Relevo pasó la conversación al equipo: el bot no respondió a tiempo.",
        )
        again = await one.desk.post(f"{path}/pending", one.boss)
        assert again.json()["status"] == "pending"
        await one.acts(path, "messages", {"text": "Aquí estoy"})
        assert not await one.waits(path)
        async with one.desk.service.runtime.database.begin(one.desk.world.account_id) as tx:
            await tx.execute(text("update directory set deleted = true where id = :id"), {"id": one.state.id})
        await one.desk.customer_writes(text="¿Sigues?")

        async def open_() -> bool:
            return (await one.seen(path))["status"] == "open"

        assert await until(open_, 30)
        await one.desk.service.settle()
        assert [e["reason"] for e in await one.events("conversation_taken_over")] == ["silent", "detached"]

    at_bots(body)


def test_a_bot_does_not_talk_alone_nor_without_end(at_bots, monkeypatch):
    monkeypatch.setattr(bots, "MOST_IN_A_WHILE", MOST_IN_A_ROW + 2)

    async def body(one):
        path = await one.writes()
        for number in range(MOST_IN_A_ROW):
            assert (await one.acts(path, "messages", {"text": f"{number}"})).status_code == 201
        alone = await one.acts(path, "messages", {"text": "más"})
        assert (alone.status_code, alone.json()["code"]) == (409, "bot_talks_alone")
        await one.desk.customer_writes(text="Gracias, estoy de vacaciones", automatic=True)
        assert len(await one.told()) == 1, "a machine wrote: the two would talk for ever"
        for _ in range(2):
            await one.desk.customer_writes(text="bla")
            last = await one.acts(path, "messages", {"text": "bla"})
        assert (last.status_code, last.json()["status"]) == (201, "open")
        await one.desk.service.settle()
        (event,) = await one.events("conversation_taken_over")
        assert event["reason"] == "endless"

    at_bots(body)


def test_a_bot_resolves_and_gets_it_again_when_the_customer_writes(at_bots):
    async def body(one):
        path = await one.writes()
        await one.acts(path, "messages", {"text": "Hecho"})
        done = await one.acts(path, "resolve")
        assert (done.status_code, done.json()["status"]) == (200, "resolved")
        await one.desk.customer_writes(text="Otra cosa")
        seen = await one.seen(path)
        assert (seen["status"], seen["cycle"], seen["people_since"]) == ("pending", 2, None)
        assert [e["kind"] for e in await one.told()] == ["message", "over", "message"]
        assert await one.waits(path)
        taken = await one.desk.post(f"{path}/take-over", one.boss)
        assert taken.json()["status"] == "open"
        assert not await one.waits(path)
        await one.desk.service.settle()
        assert [e["reason"] for e in await one.events("conversation_taken_over")] == ["taken"]

    at_bots(body)


def test_the_bot_is_skipped_for_who_has_an_owner_where_the_inbox_says_so(at_bots):
    async def body(one):
        owner, _ = await one.desk.agent("agent")
        path = await one.writes()
        contact = (await one.seen(path))["contact"]["id"]
        given = await one.desk.send("PUT", f"/contacts/{contact}/owner", one.boss, {"agent_id": owner})
        assert given.status_code == 200, given.text
        await one.desk.post(f"{path}/resolve", one.boss)
        await one.desk.customer_writes(text="Otra vez")
        assert (await one.seen(path))["status"] == "pending", "this inbox does not say so"
        assert (await one.told())[-1]["owned"] is True
        await one.desk.post(f"{path}/resolve", one.boss)
        one.desk.world.inbox = one.desk.world.inbox.model_copy(update={"bot_skips_owned": True})
        await one.desk.customer_writes(text="Y otra")
        assert (await one.seen(path))["status"] == "open"
        stranger = await one.writes(who="34600999888", text="Yo no tengo")
        assert (await one.seen(stranger))["status"] == "pending"

    at_bots(body)


# -- the example, over the bus and HTTP as it is shipped ------------------------------------------------------------


def test_the_example_bot_answers_and_hands_over(at_bots):
    spec = importlib.util.spec_from_file_location("menu_bot", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    async def body(one):
        service, world = one.desk.service, one.desk.world
        grants = bot_grants(one.state.id)
        file = service.bus.user(one.state.id, publish=grants.publish, subscribe=grants.subscribe)
        config = ConsumerConfig(
            durable_name=one.state.id,
            filter_subject=OUTBOUND.published(account=world.account_id, inbox=one.state.id),
            ack_policy=AckPolicy.EXPLICIT,
        )
        await service.admin.nats.jetstream().add_consumer(OUTBOUND.name, config)

        async def said() -> list[str]:
            items = (await one.seen(f"{path}/messages"))["items"]
            return [m["text"] for m in items if m["kind"] == "outgoing"]

        async with serving(service) as port:
            bot = Bot(service.bus.nats_url, file, f"http://127.0.0.1:{port}/api/v1", one.plain)
            bot.on_event(example.answer)
            async with bot:
                path = await one.writes("Buenas")

                async def answered(many) -> bool:
                    return len(await said()) == many

                assert await until(lambda: answered(1), 30)
                await one.desk.customer_writes(text="1")
                assert await until(lambda: answered(2), 30)
                await one.desk.customer_writes(text="Quiero una persona")

                async def open_() -> bool:
                    return (await one.seen(path))["status"] == "open"

                assert await until(open_, 30)
        assert (await said())[1] == example.HOURS["es"]
        assert (await said())[0].startswith("Hola, Cliente 34600111222.")
        notes = [m["text"] for m in (await one.seen(f"{path}/messages"))["items"] if m["kind"] == "note"]
        assert notes == ["«Quiero una persona»"]

    at_bots(body)
