"""A person whose every word is a random mark is erased, and no table, stream, segment, file or log line holds any mark."""

import asyncio
import gzip
import json
import re
import secrets
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import nats
import psycopg
import pytest
from aged import age, archive
from planting import planted
from whole_stack import Account, WholeStack, message, shared_folder, until

from relevo.contracts.base import new_id, now
from relevo.contracts.catalogue import SERVICES
from relevo.kernel.identity import sender_key
from relevo.stack.api import Api
from relevo.stack.postgres import SUPERUSER

TABLES = """
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'
    order by 1, 2
"""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000 01f15c4890000000a49444154789c63000100000500010d0a2db4"
    "0000000049454e44ae426082".replace(" ", "")
)


class Marks(dict[str, str]):
    """Random marks by what they stand for, made when they are first asked for."""

    def __missing__(self, name: str) -> str:
        digits = "".join(secrets.choice("0123456789") for _ in range(9))
        self[name] = f"600{digits[:6]}" if name.startswith("phone") else f"q{secrets.token_hex(7)}z"
        return self[name]


def marked_tables(stack: WholeStack, marks: Marks) -> set[str]:
    """Tables of any service's database in which a mark is, as text or as bytes."""
    pattern = "|".join([*marks.values(), *(mark.encode().hex() for mark in marks.values())])
    found = set()
    for service in SERVICES:
        with psycopg.connect(
            host="127.0.0.1",
            port=int(stack.environment["RELEVO_PG_PORT"]),
            dbname=f"relevo_{service}",
            user=SUPERUSER,
            password=stack.secret("postgres-admin"),
        ) as connection:
            for schema, table in connection.execute(TABLES).fetchall():
                place = psycopg.sql.Identifier(schema, table)
                query = psycopg.sql.SQL("select t::text from {} t where t::text ~ %s limit 1").format(place)
                if row := connection.execute(query, (pattern,)).fetchone():
                    mark = re.search(pattern, row[0])
                    name = re.sub(r"_\d{8}$|_\d\d$", "", table)
                    assert mark is not None
                    found.add(f"{service}.{name}")
    return found


async def marked_streams(stack: WholeStack, marks: Marks) -> set[str]:
    """Streams of which any message, its headers or its subject has a mark."""
    client = await nats.connect(
        stack.nats_url,
        user_credentials=str(stack.home / "secrets" / "topology.creds"),
        inbox_prefix="_INBOX_topology",
    )
    found = set()
    try:
        js = client.jetstream()
        names = [info.config.name for info in await js.streams_info()]
        for name in names:
            state = (await js.stream_info(name)).state
            for seq in range(max(state.first_seq, 1), state.last_seq + 1):
                try:
                    one = await js.get_msg(name, seq)
                except nats.js.errors.NotFoundError:
                    continue
                told = f"{one.subject} {one.headers}".encode() + (one.data or b"")
                if any(mark.encode() in told for mark in marks.values()):
                    found.add(name)
    finally:
        await client.close()
    return found


def marked_files(stack: WholeStack, marks: Marks) -> set[str]:
    """Files below the home with a mark in them or in their name; of the database's own, its tables are asked instead."""
    found = set()
    wanted = re.compile("|".join(marks.values()).encode())
    for path in sorted(stack.home.rglob("*")):
        place = path.relative_to(stack.home)
        if not path.is_file() or place.parts[:2] == ("servers", "postgres"):
            continue
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        if wanted.search(data) or wanted.search(str(place).encode()):
            found.add("/".join(part for part in place.parts[:3]))
    return found


async def reports(account: Account, began: Any) -> list[Any]:
    """What the reports say of a period that is over."""
    period = {"since": began.isoformat(), "until": (now() + timedelta(minutes=1)).replace(second=0).isoformat()}
    summary = await account.admin.get("/reports/summary", **period)
    facts = [one async for one in account.admin.pages("/reports/facts", metric="messages_in", **period)]
    return [{one["metric"]: (one["count"], one["sum"]) for one in summary["metrics"]}, facts]


async def quiet(stack: WholeStack) -> None:
    """Wait until nothing has moved for a while: rows, positions."""
    seen: list[Any] = []
    query = (
        "select (select count(*) from outbox where stream_seq is null), (select coalesce(max(id), 0) from outbox),"
        " (select coalesce(sum(seq), 0) from position)"
    )

    async def settled() -> bool:
        seen.append([stack.rows(service, query)[0] for service in SERVICES])
        await asyncio.sleep(0.2)  # the pace of looking, not a wait for something
        return len(seen) > 5 and all(one == seen[-1] for one in seen[-5:]) and not any(row[0] for row in seen[-1])

    await until(settled, "quiet", 60)


async def everything(stack: WholeStack, account: Account, marks: Marks) -> tuple[str, str]:
    """Traffic of one person through all that there is; answers the contact and one of their conversations."""
    admin, (ana,) = account.admin, account.people
    await ana.be("available")
    await admin.post(
        "/rules",
        {
            "name": "Facturas",
            "trigger": "message_received",
            "conditions": {"field": "message.text", "operator": "any_word", "value": ["factura"]},
            "actions": [{"type": "add_labels", "labels": ["factura"]}],
        },
    )
    await admin.post("/attributes", {"key": "nota", "name": "Nota", "kind": "text"})
    sender = f"+34{marks['phone']}"
    person = {"name": marks["name"], "email": f"{marks['mail']}@x.example", "phone": sender}
    async with account.adapter() as adapter:
        await adapter.publish(message(marks["external"], sender, f"Una factura {marks['text']}", person=person))
        talk = await account.conversation(sender, labels=["factura"])
        attached = {
            "text": marks["text2"],
            "subject": marks["subject"],
            "attachments": [{"url": f"https://files.example/{marks['url']}.pdf", "name": f"{marks['file']}.pdf"}],
        }
        await adapter.publish(
            message(new_id(), sender, person=person).model_copy(
                update={"content": message("x", sender).content.model_validate(attached)}
            )
        )
    where, contact = f"/conversations/{talk['id']}", talk["contact"]["id"]

    await admin.post(f"{where}/messages", {"text": marks["reply"]})
    await admin.post(f"{where}/messages", {"text": marks["note"], "private": True, "mentions": [f"agent:{ana.id}"]})
    async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=bearer(account)) as plain:
        put = await plain.post(
            "/files", params={"name": f"{marks['upload']}.png"}, content=PNG, headers={"Content-Type": "image/png"}
        )
        assert put.status_code == 201, put.text
        file = put.json()["id"]
    await admin.post(f"{where}/messages", {"text": "", "attachments": [file]})
    await admin.put(f"{where}/draft", {"text": marks["draft"]})
    await admin.post(f"{where}/subject", {"subject": marks["subject2"]})
    await ana.api.post(f"{where}/waiting", {"text": marks["later"], "send_at": (now() + timedelta(days=2)).isoformat()})
    await admin.post(f"/contacts/{contact}/notes", {"text": marks["contact note"]})
    await imports(stack, account, f"name,email,phone\n{marks['name']},{marks['mail']}@x.example,no\n".encode())
    await merges(account, contact, marks)
    await answers(account, where, marks)
    await reminds(account, where, marks)
    visitor, chat = await webchat(stack, account, marks)
    await admin.post(f"/contacts/{contact}/merge", {"other_id": visitor})
    await admin.post(f"{where}/merge", {"other_id": chat})
    await refused(stack, account, sender, marks)
    await dead(stack, account, sender, talk["id"], marks)
    await ana.be("offline")
    return contact, talk["id"]


def bearer(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.api_token}"}


async def imports(stack: WholeStack, account: Account, data: bytes) -> None:
    """A file of which a row with the person's address fails."""
    job = await account.admin.post("/contacts/imports", {"file_name": "personas.csv"})
    async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=bearer(account)) as plain:
        path = f"/contacts/imports/{job['id']}"
        put = await plain.put(f"{path}/file", content=data, headers={"Content-Type": "text/csv"})
        assert put.status_code == 200, put.text
    await account.admin.post(f"{path}/start", {"columns": put.json()["columns"]})

    async def ended() -> bool:
        return (await account.admin.get(path))["state"] in ("done", "failed")

    await until(ended, "the import")


async def merges(account: Account, contact: str, marks: Marks) -> None:
    """Somebody is taken for the person, and is not."""
    other = await account.admin.post("/contacts", {"name": "Otra", "email": f"{secrets.token_hex(4)}@y.example"})
    done = await account.admin.post(f"/contacts/{contact}/merge", {"other_id": other["id"]})
    await account.admin.post(f"/contacts/merges/{done['merge']['id']}/undo")
    twin = await account.admin.post("/contacts", {"name": marks["twin"], "email": f"{marks['twin mail']}@y.example"})
    await account.admin.post(f"/contacts/{contact}/merge", {"other_id": twin["id"]})


async def answers(account: Account, where: str, marks: Marks) -> None:
    """A canned reply that names the person, and the conversation by e-mail."""
    text = f"Hola, {{{{contact.name}}}}: escríbanos a {{{{contact.email}}}}. {secrets.token_hex(4)}"
    canned = await account.admin.post("/canned-replies", {"code": "hola", "text": text})
    asked = {"conversation": where.rpartition("/")[2]}
    filled = (await account.admin.get(f"/canned-replies/{canned['id']}/filled", **asked))["text"]
    assert marks["name"] in filled
    assert marks["mail"] in filled
    await account.admin.post(f"{where}/messages", {"text": filled})
    await account.people[0].api.post(f"{where}/forward", {"to": ["out@example.com"], "comment": marks["comment"]})


async def reminds(account: Account, where: str, marks: Marks) -> None:
    """A reminder that waits for long, and one that is told at once."""
    ana = account.people[0]
    await ana.api.post(f"{where}/reminders", {"days": 300, "text": marks["reminder"]})
    soon = (now() + timedelta(seconds=2)).isoformat()
    await ana.api.post(f"{where}/reminders", {"due_at": soon, "text": marks["told reminder"]})

    async def told() -> bool:
        return any(marks["told reminder"] in json.dumps(one) for one in (await ana.api.get("/notifications"))["items"])

    await until(told, "the reminder", 60)


async def webchat(stack: WholeStack, account: Account, marks: Marks) -> tuple[str, str]:
    """The same person in the chat of the web page, asked how they were served; answers the contact and the conversation."""
    given = {"name": "Web", "channel": "webchat", "survey": {"delay_seconds": 0}}
    inbox = await account.admin.post("/inboxes", given)
    path = f"/webchat/{inbox['id']}"

    async def begun() -> Any:
        async with Api(stack.edge_url, patience_seconds=1) as page:
            try:
                return await page.post(f"{path}/sessions", {"name": marks["visitor"]})
            except Exception:  # noqa: BLE001  (the inbox is not known there yet)
                return None

    session = await until(begun, "a session in the chat")
    async with Api(stack.edge_url, session["token"]) as page:
        await page.post(f"{path}/messages", {"id": new_id(), "text": marks["chat"]})
        found: dict[str, Any] = {}

        async def there() -> bool:
            items = (await account.admin.get("/conversations", inbox=inbox["id"]))["items"]
            found.update(items[0] if items else {})
            return bool(items)

        await until(there, "the chat's conversation")
        ana = account.people[0].api
        await ana.post(f"/conversations/{found['id']}/messages", {"text": marks["chat reply"]})

        async def answered() -> bool:
            asked = "select count(*) = 2 from webchat_messages where inbox_id = %s"
            return bool(stack.rows("channels", asked, [inbox["id"]])[0][0])

        await until(answered, "the reply in the chat")
        assert len((await page.get(f"{path}/messages"))["items"]) == 2
        await ana.post(f"/conversations/{found['id']}/resolve")

        async def asked() -> list[str]:
            # Past the door, which does not let one ask so often.
            said = stack.rows("channels", "select body from webchat_messages where inbox_id = %s", [inbox["id"]])
            return [token for (text,) in said for token in re.findall(r"/csat/([^?\s]+)", text)]

        token = (await until(asked, "the survey", 60))[0]
    async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1") as plain:
        done = await plain.post(f"/csat/{token}", data={"rating": "4", "comment": marks["survey"]})
        assert done.status_code == 303, done.text
    return found["contact"]["id"], found["id"]


async def exports(stack: WholeStack, account: Account, contact: str) -> str:
    """All that one gets in files: the contacts as CSV, the audit log, and what is kept of the person."""
    async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=bearer(account), timeout=30) as plain:
        contacts = await plain.post("/contacts/export", json={})
        audit = await plain.get("/audit/export")
        assert contacts.is_success, contacts.text
        assert audit.is_success, audit.text
        return contacts.text + audit.text + (await plain.get(f"/contacts/{contact}/personal-data")).text


async def refused(stack: WholeStack, account: Account, sender: str, marks: Marks) -> None:
    """A message of theirs that ingest cannot take."""
    client = await nats.connect(stack.nats_url, user_credentials=str(account.adapter_creds))
    body = {"kind": "message", "external_id": "bad", "sender": {"id": sender}, "content": {"text": marks["refused"]}}
    await client.publish(
        f"inbound.{account.id}.{account.inbox_id}.{sender_key(sender)}.message", json.dumps(body).encode()
    )
    await client.flush()
    await client.close()

    async def aside() -> bool:
        return bool((await account.admin.get("/quarantine"))["items"])

    await until(aside, "the message that was refused")


async def dead(stack: WholeStack, account: Account, sender: str, conversation: str, marks: Marks) -> None:
    """An event of theirs that no consumer can read: ingest says it, conversation gives it up."""
    body = {"inbox": {"id": account.inbox_id}, "sender_key": sender_key(sender), "content": {"text": marks["dead"]}}
    headers = {
        "Nats-Msg-Id": new_id(),
        "ce-specversion": "1.0",
        "ce-type": "relevo.ingest.message_received.v1",
        "ce-source": "relevo/ingest",
        "ce-subject": conversation,
        "ce-time": now().isoformat(),
        "relevo-account": account.id,
    }
    headers["ce-id"] = headers["Nats-Msg-Id"]
    from relevo.contracts.streams import EVT_INGEST

    values = {"account": account.id, "entity": conversation}
    with psycopg.connect(stack.told("ingest")["RELEVO_DATABASE_URL"]) as connection:
        connection.execute(
            "insert into outbox (stream, p, event_id, subject, headers, body) values (%s, %s, %s, %s, %s, %s)",
            (
                EVT_INGEST.name,
                EVT_INGEST.partition_of(**values),
                headers["ce-id"],
                EVT_INGEST.subject(**values, event="message_received"),
                json.dumps(headers),
                json.dumps(body).encode(),
            ),
        )

    async def told() -> bool:
        return bool((await account.admin.get("/dead-letters"))["items"])

    await until(told, "the dead letter", 30)


async def erased(account: Account, contact: str) -> dict[str, Any]:
    await account.admin.post(f"/contacts/{contact}/erase")
    last: dict[str, Any] = {}

    async def done() -> bool:
        last.update(await account.admin.get(f"/contacts/{contact}/erasure"))
        return last["done_at"] is not None

    await until(done, "the erasure", 60)
    return last


async def close_all(account: Account) -> None:
    """Erasing closes what is open, which reports count: let it be closed before."""
    async for one in account.admin.pages("/conversations"):
        if one["status"] != "resolved":
            await account.admin.post(f"/conversations/{one['id']}/resolve")


def rebuild(stack: WholeStack, service: str, projection: str) -> None:
    done = stack.relevo("rebuild", service, projection)
    assert done.returncode == 0, done.stdout + done.stderr


def dumped(stack: WholeStack, service: str, *tables: str) -> list[Any]:
    return [stack.rows(service, f"select t::text from {table} t order by 1") for table in tables]


HELD = {
    "conversation.messages",
    "conversation.contacts",
    "conversation.outbox",
    "conversation.dead_letters",
    "conversation.surveys",
    "conversation.reminders",
    "ingest.outbox",
    "ingest.quarantine",
    "ingest.dead_letters_seen",
    "notification.notifications",
    "notification.mails",
    "notification.outbox",
    "channels.webchat_messages",
}
STREAMED = {"INBOUND", "EVT_INGEST", "EVT_CONVERSATION", "EVT_NOTIFICATION", "OUTBOUND", "DEAD"}
EXPORTED = {"name", "mail", "text", "reply", "note", "contact note", "chat", "chat reply", "survey", "after"}
LONG_AGO = date(2024, 12, 1)
FACTS = ("facts", "rollup_minute", "rollup_hour", "rollup_day", "rollup_month")


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_nothing_of_a_person_who_was_erased_is_anywhere(stack: WholeStack) -> None:
    marks, began = Marks(), now().replace(second=0, microsecond=0)
    async with stack.account("ana") as account:
        contact, _ = await everything(stack, account, marks)
        await close_all(account)
        await quiet(stack)
        assert age(stack, LONG_AGO) == sum(one["rows"] for one in archive(stack))
        async with account.adapter() as adapter:
            await adapter.publish(message(new_id(), f"+34{marks['phone']}", marks["after"]))
            await account.conversation(f"+34{marks['phone']}", status="open")
        await close_all(account)
        await quiet(stack)
        # The looking finds what there is.
        assert marked_tables(stack, marks) >= HELD
        assert await marked_streams(stack, marks) >= STREAMED
        places = marked_files(stack, marks)
        assert any(place.startswith("servers/nats") for place in places)
        assert places >= {"files/conversation/archive", "files/ingest/archive", "files/notification/archive"}
        kept = await exports(stack, account, contact)
        assert [name for name in EXPORTED if marks[name] not in kept] == []
        told, facts = await reports(account, began), dumped(stack, "reporting", *FACTS)
        lines = log_lines(stack)

        last = await erased(account, contact)
        assert all(one["done_at"] for one in last["services"])
        await quiet(stack)
        assert marked_tables(stack, marks) == set()
        assert await marked_streams(stack, marks) == set()
        assert marked_files(stack, marks) == set()
        kept = await exports(stack, account, contact)
        assert [name for name, mark in marks.items() if mark in kept] == []
        assert await reports(account, began) == told
        assert dumped(stack, "reporting", *FACTS) == facts
        rebuild(stack, "reporting", "reports")
        assert dumped(stack, "reporting", *FACTS) == facts
        chats = dumped(stack, "realtime", "conversation_facts", "chats")
        rebuild(stack, "realtime", "conversation_facts")
        assert dumped(stack, "realtime", "conversation_facts", "chats") == chats
        alarms = {"stream_lost_messages", "stream_went_back", "lane_refused", "partition_refused"}
        assert not [line for line in log_lines(stack)[len(lines) :] if any(alarm in line for alarm in alarms)]


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[WholeStack]:
    """A stack in which the team's replies stay in the chat of the web page: tests/planted/erasing."""
    path = planted("erasing/column_forgotten", tmp_path / "sources")
    with shared_folder() as folder:
        faulty = WholeStack(folder)
        faulty.environment["PYTHONPATH"] = path
        try:
            faulty.up()
            yield faulty
        finally:
            faulty.down()


@pytest.mark.deep
@pytest.mark.timeout(400)
async def test_a_column_that_one_service_forgets_is_found(forgetful: WholeStack) -> None:
    marks = Marks()
    async with forgetful.account("ana") as account:
        contact, _ = await everything(forgetful, account, marks)
        await quiet(forgetful)
        await erased(account, contact)
        assert marked_tables(forgetful, marks) == {"channels.webchat_messages"}


def log_lines(stack: WholeStack) -> list[str]:
    return [line for path in sorted(Path(stack.home / "logs").glob("*.log")) for line in path.read_text().splitlines()]
