"""Past conversations from files of JSON lines, over HTTP, on real servers."""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from relevo.chassis import directory
from relevo.contracts.base import new_id, now
from relevo.contracts.ingest import InboxChanged, InboxState
from relevo.conversation import conversations_import, importing
from relevo.conversation.store import imports

from .contact_office import Office
from .test_contacts_api import writes
from .test_contacts_import import WORKER

START = datetime(2021, 3, 4, 9, 30, tzinfo=UTC)


async def inbox_of(office, name="Soporte", channel="email", **more):
    """An inbox of the account, by its directory."""
    inbox = InboxState(**{"id": new_id(), "account_id": office.account, "channel": channel, "name": name} | more)
    await office.service.admin.publish(InboxChanged(inbox=inbox), account=office.account, entity=inbox.id, sequence=1)
    await office.service.settle()
    return inbox


def said(kind, minutes, text, **more):
    return {"kind": kind, "at": (START + timedelta(minutes=minutes)).isoformat(), "text": text, **more}


def past(external_id="zd-1", **more):
    """One conversation as a file has it."""
    return {
        "external_id": external_id,
        "inbox": "Soporte",
        "contact": {"email": "ana@x.es", "name": "Ana Núñez"},
        "subject": "Mi pedido",
        "created_at": START.isoformat(),
        "resolved_at": (START + timedelta(hours=2)).isoformat(),
        "messages": [
            said("incoming", 0, "¿Dónde está la alcachofa?", external_id="m1"),
            said("outgoing", 30, "Hoy mismo sale.", author={"email": "eva@x.es", "name": "Eva"}),
            said("note", 31, "cliente impaciente", author={"name": "Luis, que ya no está"}),
            said("incoming", 45, "Gracias", attachments=[{"url": "https://old.example/f/1", "name": "foto.jpg"}]),
        ],
        **more,
    }


def file_of(*lines):
    return "".join(
        (one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in lines
    ).encode()


async def sent(office, who, data):
    made = await office.post("/conversations/imports", who, {"file_name": "zendesk.jsonl"})
    assert made.status_code == 201, made.text
    path = f"/conversations/imports/{made.json()['id']}"
    answer = await office.call("PUT", f"{path}/file", who, content=data)
    assert answer.status_code == 200, answer.text
    return path


async def ended(office, who, path):
    async with asyncio.timeout(60):
        while True:
            state = (await office.get(path, who)).json()
            if state["state"] not in ("checking", "running"):
                return state
            await importing.step(office.service.runtime.database)


async def imported(office, who, data, act="start", **settings):
    path = await sent(office, who, data)
    begun = await office.post(f"{path}/{act}", who, settings)
    assert begun.status_code == 202, begun.text
    return path, await ended(office, who, path)


def tally(state):
    return state["state"], state["created"], state["unchanged"], state["failed"]


async def archived(office, who, **params):
    return (await office.get("/conversations", who, archived=True, **params)).json()["items"]


async def reading(office, who):
    """Everything that anybody's day is made of: what is listed as open, counted, unread, due."""
    listed = (await office.get("/conversations", who, status=["open", "pending", "snoozed"])).json()["items"]
    counts = (await office.get("/conversations/counts", who)).json()
    timers = office.rows(
        "select kind, key, due_at from timers where account_id::text = %s order by 1, 2", office.account
    )
    return listed, counts, timers


def test_a_past_conversation_is_found_everywhere_and_nothing_happens(at_office):
    async def body(office, who):
        inbox = await inbox_of(office, archive_after_days=1)
        (agent,) = office.rows(
            "select id, state ->> 'email' as email from directory where kind = 'agent' and account_id = %s",
            office.account,
        )
        one = past(labels=["Envío"], priority="high")
        one["messages"][1]["author"]["email"] = agent["email"].upper()
        before = await reading(office, who)
        _, state = await imported(office, who, file_of(one, past("zd-2", status="resolved")), act="check")
        assert tally(state) == ("checked", 2, 0, 0)
        assert await archived(office, who) == []
        _, state = await imported(office, who, file_of(one, past("zd-2", status="resolved")))
        assert tally(state) == ("done", 2, 0, 0)
        assert state["progress"] == 1.0
        await office.service.settle()

        assert await reading(office, who) == before
        (found,) = await archived(office, who)
        assert (found["status"], found["archived"], found["historic"]) == ("resolved", True, True)
        assert (found["inbox_id"], found["subject"], found["priority"]) == (inbox.id, "Mi pedido", "high")
        assert (found["labels"], found["assignee_id"], found["message_count"]) == (["Envío"], None, 4)
        assert datetime.fromisoformat(found["created_at"]) == START
        assert datetime.fromisoformat(found["last_activity_at"]) == START + timedelta(hours=2)
        assert datetime.fromisoformat(found["first_reply_at"]) == START + timedelta(minutes=30)
        assert found["contact"]["email"] == "ana@x.es"
        (resolved,) = (await office.get("/conversations", who, status="resolved")).json()["items"]
        assert (resolved["archived"], resolved["contact"]["id"]) == (False, found["contact"]["id"])

        messages = (await office.get(f"/conversations/{found['id']}/messages", who)).json()["items"]
        assert [(m["sequence"], m["kind"], m["author"].split(":")[0], m["author_name"]) for m in messages[:4]] == [
            (1, "incoming", "contact", "Ana Núñez"),
            (2, "outgoing", "agent", "eva"),
            (3, "note", "system", "Luis, que ya no está"),
            (4, "incoming", "contact", "Ana Núñez"),
        ]
        assert messages[1]["author"] == f"agent:{agent['id']}"
        assert messages[3]["attachments"][0]["url"] == "https://old.example/f/1"
        assert [datetime.fromisoformat(m["created_at"]) for m in messages[:2]] == [START, START + timedelta(minutes=30)]
        assert messages[4]["kind"] == "activity"
        assert "importó esta conversación" in messages[4]["text"]

        hits = (await office.get("/search/messages", who, q="alcachofa")).json()["items"]
        assert {hit["conversation_id"] for hit in hits} == {found["id"], resolved["id"]}
        of_contact = (await office.get("/conversations", who, contact=found["contact"]["id"], status="resolved")).json()
        assert resolved["id"] in {one["id"] for one in of_contact["items"]}
        told = (await office.get(f"/contacts/{found['contact']['id']}/personal-data", who)).text
        assert "alcachofa" in told

        unread = (await office.get("/conversations/unread", who, id=[found["id"], resolved["id"]])).json()["items"]
        assert [(row["seen"], row["unread"]) for row in unread] == [(0, 0), (0, 0)]
        again = await office.post(f"/conversations/{found['id']}/unseen", who)
        assert (again.status_code, again.json()["code"]) == (409, "nothing_to_read")
        # One event a conversation, one for the contact and one for the label: nothing that anybody acts on.
        assert sorted(kind for kind, _, _ in office.events()) == [
            "contact_created",
            "conversation_imported",
            "conversation_imported",
            "label_changed",
        ]
        assert office.rows("select 1 from outbox where subject like %s", f"outbound.%{office.account}%") == []
        assert office.rows("select 1 from outbox where subject like %s", f"cmd.%{office.account}%") == []
        (entry,) = (await office.get(f"/conversations/{found['id']}/timeline", who)).json()["items"]
        assert "importó esta conversación" in entry["text"]
        earlier = await office.get(f"/conversations/{found['id']}/as-of", who, at=START.isoformat())
        assert (earlier.status_code, earlier.json()["code"]) == (409, "beyond_the_log")
        ((_, sequence, event),) = office.events(found["id"])
        assert (sequence, event["conversation"]["historic"], event["before"]) == (5, True, None)

    at_office(body)


FAULTY = (
    ("no es json", ""),
    ("[1]", ""),
    (past("f1", created_at="2999-01-01T00:00:00Z"), "/created_at"),
    (past("f2", created_at="1969-12-31T23:59:59Z"), "/created_at"),
    (past("f3", created_at=(START + timedelta(minutes=1)).isoformat()), "/messages/0/at"),
    (past("f4", resolved_at=(START - timedelta(minutes=1)).isoformat()), "/resolved_at"),
    (past("f5", created_at="2021-03-04T09:30:00"), "/created_at"),
    (past("f6", inbox="Otra"), "/inbox"),
    (past("f7", contact={"name": "Ana"}), "/contact"),
    (past("f8", contact={"email": "  "}), "/contact"),
    (past("f9", contact={"email": "no es"}), "/contact/email"),
    (past("f10", messages=[]), "/messages"),
    (past("f11", messages=[said("incoming", 0, " \x00 ")]), "/messages/0/text"),
    (past("f12", messages=[said("incoming", n, "hola", external_id="m") for n in (0, 1)]), "/messages/1/external_id"),
    (past("f13", messages=[said("activity", 0, "hola")]), "/messages/0/kind"),
    (past("f14", messages=[said("incoming", 0, "x", attachments=[{"url": "javascript:alert(1)"}])]), "/messages/0/attachments/0/url"),
    (past("f15", status="open"), "/status"),
    (past("f16", labels=["x" * 61]), "/labels/0"),
    (past("f17", etiqueta="vip"), "/etiqueta"),
    (past("f18", language="¿?"), "/language"),
    (past("\u202e"), "/external_id"),
    (past("f20", messages=[said("incoming", 0, "x" * 150_001)]), "/messages/0/text"),
)  # fmt: skip


def test_what_is_wrong_with_a_line_is_told_and_comes_back_to_be_mended(at_office):
    async def body(office, who):
        await inbox_of(office)
        lines = [past("ok"), *(line for line, _ in FAULTY), past("ok"), past("last")]
        data = file_of(*lines).replace(b"\\ud83d", b"")
        path, rehearsal = await imported(office, who, data, act="check")
        assert tally(rehearsal) == ("checked", 2, 0, len(FAULTY) + 1)
        told = (await office.get(f"{path}/failures", who, limit=100)).json()["items"]
        assert (await office.post(f"{path}/start", who, {})).status_code == 202
        assert tally(await ended(office, who, path)) == ("done", 2, 0, len(FAULTY) + 1)
        failures = (await office.get(f"{path}/failures", who, limit=100)).json()["items"]
        assert failures == told
        assert max(len(row["text"]) for row in failures) == 1000
        pointers = [(row["line"], row["errors"][0]["pointer"]) for row in failures]
        assert pointers == [(n, pointer) for n, (_, pointer) in enumerate(FAULTY, 2)] + [
            (len(FAULTY) + 2, "/external_id")
        ]
        assert "línea 1" in failures[-1]["errors"][0]["detail"]
        english = await office.get(f"{path}/failures", who | {"accept-language": "en"}, limit=100)
        for es, en in zip(failures, english.json()["items"], strict=True):
            assert es["errors"][0]["detail"] != en["errors"][0]["detail"]
        answer = await office.get(f"{path}/failures.jsonl", who)
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert [row["_line"] for row in rows] == [row["line"] for row in failures]
        (mended,) = [row for row in rows if row.get("external_id") == "f1"]
        assert mended["_errors"][0]["pointer"] == "/created_at"
        mended["created_at"] = START.isoformat()
        _, state = await imported(office, who, file_of(mended, past("ok"), past("last")))
        assert tally(state) == ("done", 1, 2, 0)
        assert len(await archived(office, who)) == 3
        assert office.rows("select 1 from contact_import_parts where account_id = %s", office.account) == []
        assert office.rows("select 1 from conversation_import_keys where account_id = %s", office.account) == []

    at_office(body)


def test_a_customer_who_writes_begins_anew_and_an_agent_may_open_what_was_imported(at_office):
    async def body(office, who):
        await writes(office, id="34600111222", name="Ana", phone="+34600111222")
        (live,) = (await office.get("/conversations", who)).json()["items"]
        await office.post(f"/conversations/{live['id']}/resolve", who)
        inbox = await inbox_of(office, "Tienda", live["channel"], id=live["inbox_id"])
        # It began after the one that lived here: were it one of those, the next message would go there.
        at = now().isoformat()
        said_last = [{"kind": "incoming", "at": at, "text": "¿Hola?"}]
        one = past(inbox=inbox.id, contact={"phone": "600 111 222"}, status="resolved", messages=said_last)
        one |= {"created_at": at, "resolved_at": at}
        _, state = await imported(office, who, file_of(one), phone_region="ES")
        assert tally(state) == ("done", 1, 0, 0)
        rows = (await office.get("/conversations", who, status="resolved")).json()["items"]
        (old,) = [row for row in rows if row["historic"]]
        assert (old["contact"]["id"], old["source_id"]) == (live["contact"]["id"], live["source_id"])
        await writes(office, id="34600111222", name="Ana")
        (now_open,) = (await office.get("/conversations", who, status="open")).json()["items"]
        assert now_open["historic"] is False
        # The team may go on with it: from then on it is like any other.
        opened = await office.post(f"/conversations/{old['id']}/reopen", who)
        assert (opened.status_code, opened.json()["cycle"], opened.json()["first_reply_at"]) == (200, 2, None)
        unread = (await office.get("/conversations/unread", who, id=old["id"])).json()["items"]
        assert unread[0]["unread"] == 0
        counts = (await office.get("/conversations/counts", who)).json()
        assert counts["open"]["count"] == 2

    at_office(body)


def test_who_is_erased_is_out_of_what_was_imported_and_does_not_come_back(at_office):
    async def body(office, who):
        await inbox_of(office)
        data = file_of(
            past(), past("zd-2", contact={"email": "luz@x.es"}), past("zd-3", created_at="2999-01-01T00:00:00Z")
        )
        await imported(office, who, data)
        (ana,) = (await office.get("/contacts", who, email="ana@x.es")).json()["items"]
        answer = await office.post(f"/contacts/{ana['id']}/erase", who)
        assert answer.is_success, answer.text
        left = office.rows(
            "select m.text from messages m join conversations c on c.id = m.conversation_id"
            " where c.account_id = %s and c.contact_id = %s and m.kind <> 'activity'",
            office.account,
            ana["id"],
        )
        assert [row["text"] for row in left] == [""] * 4
        assert office.rows("select 1 from contact_import_failures where account_id = %s", office.account) == []
        _, state = await imported(office, who, data)
        assert tally(state) == ("done", 0, 2, 1)
        hits = (await office.get("/search/messages", who, q="alcachofa")).json()["items"]
        assert len({hit["conversation_id"] for hit in hits}) == 1

    at_office(body)


def test_who_may_import_and_into_which_inboxes(at_office):
    async def body(office, who):
        mine, _ = await inbox_of(office, "Mía"), await inbox_of(office, "Ajena")
        path = await sent(office, who, file_of(past(inbox="Mía")))
        for role in ("agent", "supervisor", "marketing", "auditor"):
            assert (await office.post(f"{path}/start", await office.who(role), {})).status_code == 403
        other = await Office(office.service).open()
        stranger = await other.who("administrator")
        for answer in (
            await office.get(path, stranger),
            await office.post(f"{path}/start", stranger, {}),
            await office.get(f"{path}/failures.jsonl", stranger),
            await office.get(path.replace("/conversations/", "/contacts/"), who),
        ):
            assert answer.status_code == 404
        _, state = await imported(other, stranger, file_of(past(inbox=mine.id)))
        assert tally(state) == ("done", 0, 0, 1)
        narrow = await office.who("administrator", inbox_ids=(mine.id,))
        _, state = await imported(office, narrow, file_of(past(inbox="Mía"), past("b", inbox="Ajena")))
        assert tally(state) == ("done", 1, 0, 1)
        for data in (b"", b"PK\x03\x04zip", b"x" * (4 << 20)):
            answer = await office.call("PUT", f"{path}/file", who, content=data)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_json_lines")

    at_office(body)


def many(conversations, messages):
    """A file of so many conversations of so many messages each."""
    line = "hola, ¿dónde está mi pedido {n}? Lo espero desde el martes y nadie me dice nada del envío."
    for n in range(conversations):
        began = START + timedelta(minutes=7 * n)
        yield {
            "external_id": f"zd-{n}",
            "inbox": "Soporte",
            "contact": {"email": f"c{n % (conversations // 2 or 1)}@x.es", "name": f"Cliente {n}"},
            "created_at": began.isoformat(),
            "labels": ["envío"] if n % 3 else [],
            "messages": [
                {
                    "kind": "outgoing" if m % 2 else "incoming",
                    "at": (began + timedelta(minutes=m)).isoformat(),
                    "text": line.format(n=n * messages + m),
                }
                for m in range(messages)
            ],
        }


def test_an_import_goes_on_after_any_chunk_and_can_be_cancelled(at_office, monkeypatch):
    monkeypatch.setattr(conversations_import, "CHUNK", 2)

    async def body(office, who):
        await inbox_of(office)
        path = await sent(office, who, file_of(*many(5, 2), past("zd-0", contact={"email": "c0@x.es"})))
        await office.post(f"{path}/start", who, {})
        await importing.step(office.service.runtime.database)
        state = (await office.post(f"{path}/cancel", who)).json()
        assert state["state"] == "cancelled"
        count = len(await archived(office, who))
        assert count == state["created"] >= 2
        assert (await office.post(f"{path}/start", who, {})).status_code == 202
        assert tally(await ended(office, who, path)) == ("done", 5 - count, count + 1, 0)
        assert len(await archived(office, who)) == 5

    at_office(body)


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_killed_anywhere_it_goes_on_and_no_conversation_is_half_there(servers, run, tmp_path):
    async def body(service):
        account, id_, file_id = new_id(), new_id(), new_id()
        inbox = InboxState(id=new_id(), account_id=account, channel="email", name="Soporte")
        data = file_of(*many(600, 2))
        async with service.database.begin(account) as tx:
            await directory.apply(tx, "inbox", account, inbox.id, inbox, 1)
            await imports.add(tx, account, "conversations", id=id_, actor="agent:a", actor_name="a", file_name="f")
            await imports.add_part(tx, account, file_id, 0, data)
            file = {"delimiter": "", "header": [], "columns": [], "offset": 0, "line": 1}
            await imports.uploaded(tx, account, id_, file=file_id, size=len(data), **file)
            await imports.begin(tx, account, id_, state="running")
        script = tmp_path / "worker.py"
        script.write_text(WORKER)
        for crash, code in (
            ("conversations_import.between_conversations_and_messages:2", 137),
            ("contacts_import.after_commit", 137),
            (None, 0),
        ):
            environment = dict(os.environ) | ({"RELEVO_CRASH": crash} if crash else {})
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), servers.serving(service.dsn), env=environment
            )
            assert await process.wait() == code
            (state,) = service.rows("select state, created, failed, next_line from contact_imports")
            assert (state["created"], state["failed"]) == (state["next_line"] - 1, 0)
            ((count, whole),) = [
                tuple(row.values())
                for row in service.rows(
                    "select count(*) as every, count(*) filter (where 3 = (select count(*) from messages m"
                    " where m.conversation_id = c.id)) from conversations c"
                )
            ]
            assert count == whole == state["created"]
            told = [headers["ce-subject"] for name, _, headers in service.events() if name == "conversation_imported"]
            assert len(told) == len(set(told)) == count
        assert (state["state"], count) == ("done", 600)

    run(body)


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_ten_thousand_conversations_within_a_minute(at_office, record_property):
    async def body(office, who):
        await inbox_of(office)
        begun = time.monotonic()
        path = await sent(office, who, file_of(*many(10_000, 10)))
        record_property("upload", time.monotonic() - begun)
        for act in ("check", "start"):
            begun = time.monotonic()
            assert (await office.post(f"{path}/{act}", who, {})).status_code == 202
            async with asyncio.timeout(200):
                while (state := (await office.get(path, who)).json())["state"] in ("checking", "running"):
                    await importing.step(office.service.runtime.database)
            seconds = time.monotonic() - begun
            record_property(act, seconds)
            print(f"\n  {act}: {seconds:.1f} s", state)  # noqa: T201
            assert (state["created"], state["failed"]) == (10_000, 0)
            assert seconds < 90
        ((messages,),) = [
            tuple(row.values())
            for row in office.rows(
                "select count(*) from messages where account_id = %s and kind <> 'activity'", office.account
            )
        ]
        assert messages == 100_000
        assert state["finished_at"] is not None
        assert now() > datetime.fromisoformat(state["finished_at"])

    at_office(body)
