"""What is private reaches no customer and no other account, by any path: everything that leaves is searched for markers.

An account lives through all that it can do, every private word of it being a marker of its own. Then everything is asked
that a customer's channel, a metrics consumer, another account or nobody can reach: what the catalogue sends outside, what
the channels keep, and every operation of the HTTP interface by its own document, so that a new one is met by itself.
"""

import asyncio
import importlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import httpx
import nats
import pytest
from chaos.checker import Streams
from fastapi.routing import APIWebSocketRoute
from walker import Operation, Walker, ask
from websockets.asyncio.client import connect
from whole_stack import Account, Person, WholeStack, message, until

from relevo.adapter.credential import credential_id
from relevo.contracts.base import now
from relevo.contracts.catalogue import MESSAGES, SERVICES
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import INBOUND
from relevo.kernel.identity import sender_key
from relevo.stack.api import Api
from relevo.stack.documents import _placeholders

NOWHERE: Final = "0197a3a0-0000-7000-8000-000000000000"
NOT_HAD: Final = {
    "dead_letter_id": "nothing of an account becomes one unless the machinery is broken",
    "device_id": "a push service is a host of its own, which tests do not call",
}
"""Ids of which the story has none, and why."""
SOCKETS: Final = {"/socket", "/webchat/{inbox}/socket"}
"""Every websocket; this test listens at both."""
OUTSIDE: Final = [one for one in MESSAGES if set(one.consumers) - set(SERVICES)]
"""What the catalogue sends to somebody who is no service of ours."""
NOT_SENT: Final = {"relevo.metrics.live.v1": "reporting publishes no live figures yet"}
"""Messages to the outside that nobody sends; once one is, it goes from here."""
BY_THEMSELVES: Final = {
    "channels.deliveries",
    "automation.webhook_deliveries",
    "automation.webhook_endpoints",
    "automation.webhook_lanes",
}
"""Rows that move although nobody asks anything: a webhook that is not there is tried again."""
LAST: Final = ("/sessions", "/me/", "/account")
"""What may end the session that asks."""
PUBLIC_ENOUGH: Final = {"label", "bulk label"}
"""A metrics consumer is the account's own, and counts by label: these words stand in facts, and nowhere else outside."""


class Words:
    """Words that occur nowhere else. ``private`` is for the team alone, ``public`` what customers may read."""

    def __init__(self) -> None:
        self.private: dict[str, str] = {}
        self.public: dict[str, str] = {}
        self.gone: set[str] = set()

    def __call__(self, what: str, *, gone: bool = False) -> str:
        """A private word. ``gone``: it was taken back, so that nobody can read it any more."""
        if gone:
            self.gone.add(what)
        return self.private.setdefault(what, f"zq{secrets.token_hex(8)}")

    def said(self, what: str) -> str:
        """A public word: for the customer, or known to them."""
        return self.public.setdefault(what, f"kw{secrets.token_hex(8)}")

    def found(self, text: str) -> set[str]:
        """The private ones in a text."""
        return {what for what, word in self.private.items() if word in text}


class Story:
    """The account's life."""

    def __init__(self, account: Account, words: Words, client: httpx.AsyncClient) -> None:
        self.account, self.words, self.client = account, words, client
        self.admin = account.admin
        self.ids: dict[str, str] = {"account_id": account.id, "kind": "mention"} | dict.fromkeys(NOT_HAD, NOWHERE)
        self.visitor = ""
        self.talks: list[str] = []
        self.mine: str = ""
        self.bot_key = ""

    async def put(self, path: str, body: bytes, kind: str, token: str | None = None) -> httpx.Response:
        """A file."""
        method = "POST" if path.startswith("/files") else "PUT"
        headers = {"content-type": kind, "authorization": f"Bearer {token or self.account.api_token}"}
        answer = await self.client.request(method, f"/api/v1{path}", content=body, headers=headers)
        assert answer.is_success, answer.text
        return answer

    async def live(self) -> None:
        """Everything."""
        m = self.words
        ana, zoe = self.account.people
        boss = await hired(self.account, "Berta", f"berta-{secrets.token_hex(4)}@relevo.example", "supervisor")
        team = await self.admin.post(
            "/teams", {"name": m("team"), "member_ids": [ana.id, zoe.id], "auto_assign": False}
        )
        role = await self.admin.post("/roles", {"name": m("role"), "permissions": [], "scope": "own"})
        chat = await self.admin.post(
            "/inboxes", {"name": m("inbox"), "channel": "webchat", "survey": {"delay_seconds": 0}}
        )
        self.ids |= {"team_id": team["id"], "role_id": role["id"], "inbox": chat["id"], "agent_id": zoe.id}
        self.ids |= {"inbox_id": self.account.inbox_id}
        hooked = await self.admin.post(
            "/inboxes", {"name": "Gancho", "channel": "api", "webhook_url": "https://hooks.example/x"}
        )
        rule = {
            "name": m("rule"),
            "trigger": "message_received",
            "actions": [{"type": "add_note", "text": m("rule note")}],
        }
        self.ids["rule_id"] = (await self.admin.post("/rules", rule))["id"]
        hook = await self.admin.post("/webhooks", {"url": "https://hooks.example/y"})
        self.ids["webhook_id"] = hook["id"]
        level = {"name": m("service level"), "targets": {"default": {"first_response": 600}}}
        self.ids["policy_id"] = (await self.admin.post("/sla/policies", level))["id"]
        watching = {"kind": "nobody_available", "team_id": team["id"]}
        self.ids["alert_id"] = (await boss.api.post("/alerts", watching))["id"]
        for entity in ("contact", "conversation"):
            made = {"entity": entity, "key": "plan", "name": m(f"{entity} field"), "kind": "text"}
            self.ids["attribute_id"] = (await self.admin.post("/attributes", made))["id"]
        await self.customers_write(chat["id"], hooked["id"])
        for talk in self.talks:
            await self.work_on(talk, ana, zoe, team["id"])
        await self.contacts()
        await self.desk(ana, zoe)
        await self.machinery(ana)
        await self.survey(ana, chat["id"])
        await self.bot()

        async def waiting() -> list[dict[str, Any]]:
            return list((await self.admin.get(f"/webhooks/{hook['id']}/deliveries"))["items"])

        self.ids["delivery_id"] = (await until(waiting, "events to wait for the webhook"))[0]["id"]

    async def customers_write(self, chat: str, hooked: str) -> None:
        m = self.words
        opened = await self.client.post(f"/api/v1/webchat/{chat}/sessions", json={"name": m.said("visitor")})
        self.visitor = opened.json()["token"]
        said = {"id": "m1", "text": m.said("question")}
        headers = {"authorization": f"Bearer {self.visitor}"}
        assert (await self.client.post(f"/api/v1/webchat/{chat}/messages", json=said, headers=headers)).is_success
        async with self.account.adapter() as adapter:
            person = {"name": m.said("caller")}
            await adapter.publish(message("p-1", "+34600000091", m.said("call"), person=person))
        issued = await self.admin.post("/adapter-credentials", {"inbox_id": hooked, "name": m("credential")})
        self.ids["credential_id"] = issued["id"]
        events = {"events": [message("h-1", "s-1", "hola").model_dump(mode="json", exclude_none=True)]}
        key = {"authorization": f"Bearer {issued['key']}"}
        assert (await self.client.post(f"/api/v1/inbound/{hooked}", json=events, headers=key)).status_code < 500

        client = await nats.connect(
            self.account.stack.nats_url,
            user_credentials=str(self.account.adapter_creds),
            inbox_prefix=inbox_prefix(credential_id(self.account.adapter_creds)),
        )
        where = {
            "account": self.account.id,
            "inbox": self.account.inbox_id,
            "sender": sender_key("s"),
            "kind": "message",
        }
        faulty = json.dumps({"kind": "message", "content": m("faulty")}).encode()
        await client.request(INBOUND.subject(**where), faulty, timeout=30)
        await client.close()

        async def all_there() -> list[str]:
            items = (await self.admin.get("/conversations"))["items"]
            with_note = [one for one in items if one["message_count"] > 1]  # the rule's
            return (
                [one["id"] for one in sorted(with_note, key=lambda one: one["inbox_id"] != chat)]
                if len(with_note) == 3
                else []
            )

        self.talks = await until(all_there, "three conversations")

    async def work_on(self, talk: str, ana: Person, zoe: Person, team: str) -> None:
        m, at = self.words, f"/conversations/{talk}"
        token = token_of(ana.api)
        files = []
        for name, body in ((m("note file"), m("note file content")), (m.said("file"), m.said("content"))):
            sent = await self.put(f"/files?name={name}.txt", f"{body} plain words".encode(), "text/plain", token)
            files.append(sent.json()["id"])
        mentions = [f"agent:{zoe.id}", f"team:{team}"]
        note = {"text": m("note"), "private": True, "mentions": mentions, "attachments": files[:1]}
        noted = await ana.api.post(f"{at}/messages", note)
        edited = await ana.api.post(f"{at}/messages", {"text": m("note before"), "private": True})
        await self.patch(f"{at}/messages/{edited['id']}", {"text": m("note after")}, token)
        self.ids = {"conversation_id": talk, "message_id": edited["id"], "file_id": files[0]} | self.ids
        deleted = await ana.api.post(f"{at}/messages", {"text": m("note deleted", gone=True), "private": True})
        await ana.api.delete(f"{at}/messages/{deleted['id']}")
        await ana.api.post(f"{at}/messages/{noted['id']}/reactions", {"emoji": "👍"})
        await ana.api.post(f"{at}/messages", {"text": m.said("reply"), "attachments": files[1:]})
        waits = await ana.api.post(f"{at}/waiting", {"text": m("undone", gone=True), "delay_seconds": 120})
        await ana.api.delete(f"{at}/waiting/{waits['id']}")
        await ana.api.post(f"{at}/waiting", {"text": m("waiting"), "send_at": (now() + timedelta(days=1)).isoformat()})
        await self.patch(f"{at}/attributes", {"attributes": {"plan": m("attribute")}}, token)
        await ana.api.post(f"{at}/labels", {"add": [m("label")]})
        await ana.api.post(f"{at}/priority", {"priority": "high"})
        await ana.api.post(f"{at}/participants", {"add": [zoe.id]})
        await self.admin.post(f"{at}/assignment", {"assignee_id": zoe.id, "team_id": team})
        for text in (m("draft before", gone=True), m("draft")):
            await ana.api.put(f"{at}/draft", {"text": text, "private": True})

    async def contacts(self) -> None:
        m = self.words
        talk = await self.admin.get(f"/conversations/{self.ids['conversation_id']}")
        contact = talk["contact"]["id"]
        given = {
            "company": m("company"),
            "city": m("city"),
            "identifier": m("identifier"),
            "attributes": {"plan": m("plan")},
        }
        await self.patch(f"/contacts/{contact}", given)
        await self.admin.post(f"/contacts/{contact}/labels", {"add": [m("contact label")]})
        note = await self.admin.post(f"/contacts/{contact}/notes", {"text": m("contact note")})
        other = await self.admin.post("/contacts", {"name": m("merged")})
        merged = await self.admin.post(f"/contacts/{contact}/merge", {"other_id": other["id"]})
        self.ids |= {"contact_id": contact, "note_id": note["id"], "merge_id": merged["merge"]["id"]}
        shared = {"shared": True, "filter": {"field": "name", "operator": "equals", "value": m("segment value")}}
        self.ids["segment_id"] = (await self.admin.post("/segments", {"name": m("segment")} | shared))["id"]
        acts = [{"do": "message", "text": m("macro"), "private": True}]
        self.ids["macro_id"] = (
            await self.admin.post("/macros", {"name": m("macro name"), "shared": True, "acts": acts})
        )["id"]
        made = await self.admin.post("/contacts/imports", {"file_name": f"{m('import')}.csv"})
        self.ids["import_id"] = made["id"]
        await self.put(f"/contacts/imports/{made['id']}/file", f"name\n{m('imported')}\n".encode(), "text/csv")
        await self.admin.post(f"/contacts/imports/{made['id']}/start", {"columns": ["name"]})

    async def desk(self, ana: Person, zoe: Person) -> None:
        m = self.words
        canned = await self.admin.post("/canned-replies", {"code": m("code"), "text": m("canned")})
        view = await self.admin.post("/views", {"name": m("view"), "shared": True, "filters": {"text": m("view text")}})
        job = await ana.api.post(
            "/conversations/bulk", {"act": {"do": "labels", "add": [m("bulk label")]}, "ids": self.talks}
        )
        self.ids |= {"canned_id": canned["id"], "view_id": view["id"], "job_id": job["id"]}

        async def told() -> list[dict[str, Any]]:
            return list((await zoe.api.get("/notifications"))["items"])

        self.ids["notification_id"] = (await until(told, "Zoe to be told of the note"))[0]["id"]
        self.ids["session_id"] = (await ana.api.get("/sessions"))["items"][0]["id"]

    async def machinery(self, ana: Person) -> None:
        m = self.words
        key = await self.admin.post(
            "/api-keys", {"name": m("key"), "permissions": ["conversations.read"], "scope": "all"}
        )
        self.ids["key_id"] = key["id"]

        async def kept() -> list[dict[str, Any]]:
            return list((await self.admin.get("/quarantine"))["items"])

        always = {"time_zone": "Europe/Madrid", "weekly": {}}
        day = {"first_day": "2099-01-01", "last_day": "2099-01-02"}
        for name, path, given in (
            ("label_id", "/labels", {"description": m("label description")}),
            ("calendar_id", "/calendars", {"time_zone": "Europe/Madrid"}),
            ("status_id", "/presence/statuses", {"state": "busy"}),
            ("schedule_id", "/presence/schedules", {"calendar": always, "agent_ids": [ana.id]}),
            ("absence_id", "/presence/absences", {"agent_id": ana.id, "note": m("absence")} | day),
        ):
            named = {} if name == "absence_id" else {"name": m(name)}
            self.ids[name] = (await self.admin.post(path, given | named))["id"]
        self.ids["quarantine_id"] = (await until(kept, "the faulty event in quarantine"))[0]["id"]
        last = self.talks[2]
        await ana.api.post(f"/conversations/{last}/resolve", {})
        await self.admin.post(f"/conversations/{last}/delete", {"reason": m("reason")})
        self.talks = self.talks[:2]

    async def survey(self, ana: Person, chat: str) -> None:
        """The visitor is asked how they were served, and answers."""
        (talk,) = [one["id"] for one in (await self.admin.get("/conversations", inbox=chat))["items"]]
        await self.slip(ana, f"/conversations/{talk}/messages")
        given = {"hours": 500, "text": self.words("reminder")}
        reminder = await self.admin.post(f"/conversations/{self.talks[1]}/reminders", given | {"to": "assignee"})
        self.ids["reminder_id"] = reminder["id"]
        await ana.api.post(f"/conversations/{talk}/resolve", {})

        async def asked() -> list[str]:
            said = self.account.stack.rows("channels", "select body from webchat_messages where inbox_id = %s", [chat])
            return [token for (text,) in said for token in re.findall(r"/csat/([^?\s]+)", text)]

        self.ids["token"] = (await until(asked, "the survey"))[0]
        given = {"rating": "4", "comment": self.words.said("comment")}
        answer = await self.client.post(f"/api/v1/csat/{self.ids['token']}", data=given)
        await ana.api.post(
            f"/conversations/{talk}/forward", {"to": ["out@example.com"], "comment": self.words.said("comment")}
        )
        assert answer.status_code == 303, answer.text

    async def bot(self) -> None:
        """A bot has a conversation of its inbox, and leaves it to people with a note."""
        inbox = (await self.admin.post("/inboxes", {"name": "Bot", "channel": "api", "bot_first": True}))["id"]
        issued = await self.admin.post("/bots", {"inbox_id": inbox, "name": self.words.said("bot")})
        adapter = await self.admin.post("/adapter-credentials", {"inbox_id": inbox, "name": "Bot"})
        self.ids["bot_id"], self.bot_key = issued["id"], issued["key"]
        key, sent = {"authorization": f"Bearer {adapter['key']}"}, 0

        async def given() -> list[str]:
            # The bot is known there in a moment; whoever writes before that is people's.
            nonlocal sent
            sent += 1
            event = message(f"b-{sent}", f"b-{sent}", "hola").model_dump(mode="json", exclude_none=True)
            await self.client.post(f"/api/v1/inbound/{inbox}", json={"events": [event]}, headers=key)
            items = (await self.admin.get("/conversations", inbox=inbox))["items"]
            return [one["id"] for one in items if one["status"] == "pending"]

        talk = (await until(given, "a conversation that the bot has"))[0]
        who = {"authorization": f"Bearer {self.bot_key}"}
        note = {"reason": "cannot_help", "note": self.words("note")}
        answer = await self.client.post(f"/api/v1/bot/conversations/{talk}/hand-over", json=note, headers=who)
        assert answer.status_code == 200, answer.text

    async def slip(self, ana: Person, at: str) -> None:
        """A reply that is mended when the customer has it."""
        sent = await ana.api.post(at, {"text": self.words.said("slip")})

        async def there() -> bool:
            items = (await self.admin.get(at, order="newest"))["items"]
            return any(one["id"] == sent["id"] and one["status"] not in ("queued", "failed") for one in items)

        await until(there, "the reply to be sent")
        await self.patch(f"{at}/{sent['id']}", {"text": self.words.said("mended")}, token_of(ana.api))

    async def patch(self, path: str, body: Any, token: str | None = None) -> None:
        """With the ETag that it wants, where it wants one."""
        headers = {"authorization": f"Bearer {token or self.account.api_token}"}
        present = await self.client.get(f"/api/v1{path}", headers=headers)
        if etag := present.headers.get("etag"):
            headers["if-match"] = etag
        answer = await self.client.patch(f"/api/v1{path}", json=body, headers=headers)
        assert answer.is_success, (path, answer.text)


def token_of(api: Api) -> str:
    """What it signs its requests with."""
    return str(api._client.headers["authorization"]).removeprefix("Bearer ")


async def hired(account: Account, name: str, email: str, role: str) -> Person:
    """A person of the team, signed in."""
    roles = {one["name"]: one["id"] for one in (await account.admin.get("/roles"))["items"]}
    password = secrets.token_urlsafe(18)
    body = {"name": name, "email": email, "role_id": roles[role], "inbox_ids": None, "initial_password": password}
    agent = await account.admin.post("/agents", body)
    async with Api(account.stack.edge_url) as anybody:
        session = await anybody.post("/sessions", {"email": email, "password": password})
    person = Person(agent["id"], email, password, Api(account.stack.edge_url, session["access_token"]))
    account.people.append(person)
    return person


class Ear:
    """Hears everything that a socket is sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @asynccontextmanager
    async def at(self, address: str) -> AsyncIterator["Ear"]:
        async with connect(address, proxy=None) as socket:

            async def listen() -> None:
                async for text in socket:
                    self.heard.append(str(text))

            task = asyncio.create_task(listen())
            try:
                yield self
            finally:
                task.cancel()


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _placeholders().items():
        monkeypatch.setenv(name, value)


def websockets() -> set[str]:
    """Of all services."""

    def within(routes: Iterable[Any]) -> Iterator[str]:
        for route in routes:
            if isinstance(route, APIWebSocketRoute):
                yield route.path
            yield from within(getattr(getattr(route, "original_router", route), "routes", ()))

    built = [importlib.import_module(f"relevo.{service}.app").build() for service in SERVICES]
    return {path for service in built if service.router for path in within(service.router.routes)}


async def published(stack: WholeStack, account: Account, stream: str) -> dict[str, list[str]]:
    """What a stream holds of an account, raw, by type of message."""
    client = await nats.connect(
        stack.nats_url,
        user_credentials=str(stack.home / "secrets" / "topology.creds"),
        inbox_prefix=inbox_prefix("topology"),
    )
    found: dict[str, list[str]] = {}
    try:
        async for one in Streams(client).read(stream):
            if account.id in one.subject.split("."):
                text = f"{one.subject} {dict(one.headers)} {one.body.decode()}"
                found.setdefault(one.headers["ce-type"], []).append(text)
    finally:
        await client.close()
    return found


def rows_of(stack: WholeStack, service: str, account: str, but: Iterable[str] = ()) -> dict[str, list[str]]:
    """Every row of an account in a service's database, as text, by table."""
    tables = stack.rows(
        service,
        "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'account_id'"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition",
    )
    return {
        table: [
            row[0]
            for row in stack.rows(service, f"select t::text from {table} t where account_id::text = %s", [account])
        ]
        for (table,) in tables
        if table not in but
    }


@pytest.mark.timeout(400)
async def test_nothing_private_leaves_by_any_path(stack: WholeStack, documented: None) -> None:
    assert websockets() == SOCKETS, "this test listens at every socket: have it listen at the new one too"
    m = Words()
    async with (
        AsyncExitStack() as open_,
        httpx.AsyncClient(base_url=stack.edge_url, trust_env=False, timeout=30) as client,
    ):
        mine = await open_.enter_async_context(stack.account("ana"))
        theirs = await open_.enter_async_context(stack.account())
        await hired(mine, m("name"), f"{m('address')}@relevo.example", "agent")
        stranger = await hired(theirs, "Eve", f"eve-{secrets.token_hex(4)}@relevo.example", "administrator")
        edge = stack.edge_url.replace("http://", "ws://") + "/api/v1"
        ticket = (await stranger.api.post("/socket/tickets"))["ticket"]
        foreign = await open_.enter_async_context(Ear().at(f"{edge}/socket?ticket={ticket}"))

        story = Story(mine, m, client)
        await story.live()
        chat = await open_.enter_async_context(
            Ear().at(f"{edge}/webchat/{story.ids['inbox']}/socket?token={story.visitor}")
        )

        # What the catalogue sends outside.
        leaks: list[str] = []
        for stream in {one.stream.name for one in OUTSIDE}:
            wanted = {one.name for one in OUTSIDE if one.stream.name == stream} - NOT_SENT.keys()

            async def all_sent(stream: str = stream, wanted: set[str] = wanted) -> dict[str, list[str]] | None:
                found = await published(stack, mine, stream)
                return found if found.keys() >= wanted else None

            sent = await until(all_sent, f"a message of each of {wanted}")
            assert sent
            assert not sent.keys() & NOT_SENT.keys()
            for name, texts in sent.items():
                enough = PUBLIC_ENOUGH if stream == "METRICS" else set()
                leaks += [f"{name}: {found}" for text in texts if (found := m.found(text) - enough)]
                if stream == "METRICS":
                    leaks += [f"{name}: {what}" for what, word in m.public.items() if any(word in t for t in texts)]

        # What channels keep to send, and what visitors get.
        kept = rows_of(stack, "channels", mine.id, but=["directory"])
        assert m.public["reply"] in str(kept["webchat_messages"])
        leaks += [
            f"channels keeps in {table}: {m.found(str(rows))}" for table, rows in kept.items() if m.found(str(rows))
        ]

        # The account's webhooks are its own, and told of what customers and the team did; no note is among it.
        posted = stack.rows("automation", "select body from webhook_deliveries where account_id = %s", [mine.id])
        assert m.public["reply"] in str(posted)
        leaks += [f"a webhook: {what}" for what in m.found(str(posted)) if "note" in what]

        async def answered() -> bool:
            return m.public["reply"] in str(chat.heard)

        await until(answered, "the visitor to be answered")
        leaks += [f"a socket: {m.found(str(ear.heard))}" for ear in (chat, foreign) if m.found(str(ear.heard))]
        transcript = await client.get(
            f"/api/v1/conversations/{story.talks[0]}/transcript", headers={"authorization": f"Bearer {mine.api_token}"}
        )
        assert m.public["reply"] in transcript.text
        leaks += [f"the transcript: {found}" for found in [m.found(transcript.text)] if found]
        mails = stack.rows("notification", "select t::text from mails t where agent_id is null")
        leaks += [f"a mail to no agent: {found}" for (text,) in mails if (found := m.found(text))]

        # Every operation, by whoever is not of the team.
        walker = Walker(story.ids)
        assert not walker.unknown(), "the story has none of these: have it make one"
        before = {service: rows_of(stack, service, mine.id) for service in SERVICES}
        asked = 0

        async def asks(who: str, token: str | None, *, all_of_it: bool = False) -> None:
            nonlocal asked
            for one in sorted(walker.operations(), key=ends_sessions):
                # Who needs no right of ours gets nothing where one is wanted: test_endpoints.py asks that of each.
                for request in (
                    walker.requests(one)
                    if all_of_it or one.needed is None or {"adapter", "bot"} & set(one.needed)
                    else ()
                ):
                    answer = await ask(client, request, token)
                    asked += 1
                    assert answer.status_code != 500, (one.id, who)
                    if found := m.found(answer.text + str(answer.headers)):
                        leaks.append(f"{one.id} tells {who}: {found}")

        await asks("another account", token_of(stranger.api), all_of_it=True)
        await asks("nobody", None)
        after = {service: rows_of(stack, service, mine.id) for service in SERVICES}
        changed = {
            f"{service}.{table}"
            for service, tables in before.items()
            for table, rows in tables.items()
            if sorted(rows) != sorted(after[service][table])
        } - BY_THEMSELVES
        await asks("the visitor", story.visitor)
        await asks("the adapter", mine.adapter_key)
        await asks("the bot", story.bot_key)
        assert not leaks
        assert not changed, "another account changed something"

        # All of it is there to be found, for the team.
        shown = ""
        for token in (mine.api_token, *(token_of(person.api) for person in mine.people)):
            for one in walker.operations():
                if one.method == "GET" and one.needed is not None:
                    shown += (await ask(client, next(walker.requests(one)), token)).text
        assert m.private.keys() - m.found(shown) == m.gone | {"note file content"}
        await files_are_apart(client, mine, story)
        print(
            f"{asked} requests of {len(walker.operations())} operations, {len(m.private)} markers, {len(leaks)} leaks"
        )


def ends_sessions(one: Operation) -> bool:
    """Whether it may end the session that asks: it is asked last."""
    return one.path.removeprefix("/api/v1").startswith(LAST)


async def files_are_apart(client: httpx.AsyncClient, mine: Account, story: Story) -> None:
    """A note's file is had by its own signature only."""
    headers = {"authorization": f"Bearer {mine.api_token}"}
    listed = await client.get(f"/api/v1/conversations/{story.talks[0]}/messages", headers=headers)
    urls = {one["name"]: one["url"] for item in listed.json()["items"] for one in item["attachments"]}
    private = urls[f"{story.words.private['note file']}.txt"]
    public = urls[f"{story.words.public['file']}.txt"]
    assert story.words.private["note file content"] in (await client.get(private)).text
    stolen = f"{private.partition('?')[0]}?{public.partition('?')[2]}"
    assert (await client.get(stolen)).status_code == 404
