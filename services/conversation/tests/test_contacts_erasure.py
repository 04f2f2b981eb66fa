"""Personal data: told whole, and erased from every table and from the log."""

import json
import secrets

import pytest

from relevo.chassis import outbox
from relevo.chassis.bus import until
from relevo.contracts.catalogue import HOLDERS, decode
from relevo.contracts.erasure import PersonErased
from relevo.conversation.store.erasures import SWEEPERS

from .contact_office import Office, run_module
from .test_contacts_api import writes
from .test_contacts_import import imported


@pytest.fixture(scope="module")
def running_office(servers):
    """One running service; each test has an account of its own."""
    yield from run_module(servers, RELEVO_ERASURE_SETTLE_SECONDS="0")


async def part(office, who, contact, *, task="data", service="conversation"):
    """Wait until a service has done its part of an erasure."""

    async def done():
        told = (await office.get(f"/contacts/{contact}/erasure", who)).json()
        return any(one["done_at"] for one in told["services"] if (one["service"], one["task"]) == (service, task))

    assert await until(done, 30)


async def answer(office, contact, service, *, sweep=False):
    """What another service says when it has done its part."""
    told = PersonErased(erasure_id=contact, contact_id=contact, sweep=sweep)
    options = {"account": office.account, "entity": contact, "actor": "system", "sequence": 0}
    _, row = outbox.outgoing(service, told, **options, time=None, cause=None, id=None)
    await office.service.admin.nats.jetstream().publish(row.subject, row.body, headers=json.loads(row.headers))


async def on_the_bus(office, marks):
    """In which streams any of the marks is."""
    places = set()
    for stream in ("EVT_CONVERSATION", "OUTBOUND", "CMD_ERASURE"):
        for subject, headers, body in await office.service.admin.stored(stream):
            told = f"{subject} {headers} ".encode() + body
            places |= {(stream, mark) for mark in marks if mark.encode() in told}
    return places


def found(office, marks):
    """Where in the whole database any of the marks is: table and mark."""
    places = set()
    tables = office.rows(
        "select relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where nspname = 'public' and relkind = 'r'"
    )
    for table in (row["name"] for row in tables):
        whole = "convert_from(t.body, 'utf8') || t.headers || t.subject" if table.startswith("outbox") else "t::text"
        rows = office.rows(
            f"select mark from unnest(%s::text[]) mark where exists (select 1 from {table} t where strpos({whole}, mark) > 0)",
            list(marks),
        )
        places |= {(table, row["mark"]) for row in rows}
    return places


async def traffic(office, who):
    """A person with everything that this service can hold of one; answers the contact and the marks."""
    mark = {
        name: secrets.token_hex(6) for name in ("name", "mail", "text", "note", "reply", "other", "file", "subject")
    }
    digits = "".join(secrets.choice("0123456789") for _ in range(8))
    await office.post("/attributes", who, {"key": "nota", "name": "Nota", "kind": "text"})
    await writes(office, id=f"34{digits}x", name=mark["name"], phone=f"+346{digits}")
    (web,) = (await office.get("/contacts", who)).json()["items"]
    ana = await office.contact(
        who,
        name=mark["other"],
        email=f"{mark['mail']}@x.es",
        attributes={"nota": mark["note"]},
        identifier=mark["file"],
    )
    (conversation,) = (await office.get("/conversations", who)).json()["items"]
    path = f"/conversations/{conversation['id']}"
    await office.post(f"{path}/messages", who, {"text": mark["reply"]}, idempotency_key="k")
    await office.post(f"{path}/messages", who, {"text": mark["note"], "private": True})
    await office.call("PUT", f"{path}/draft", who, json={"text": mark["text"]})
    await office.post(f"{path}/subject", who, {"subject": mark["subject"]})
    await office.post(f"/contacts/{ana['id']}/notes", who, {"text": mark["note"]})
    data = f"name,email,phone\n{mark['name']},{mark['mail']}@x.es,no\n".encode()
    await imported(office, who, data)
    merge = await office.post(f"/contacts/{ana['id']}/merge", who, {"other_id": web["id"]}, idempotency_key="m")
    assert merge.status_code == 201, merge.text
    await writes(office, id=f"34{digits}x", name=mark["name"], phone=f"+346{digits}")
    await office.service.settle()
    return ana, conversation, [*mark.values(), digits]


def test_a_person_is_told_whole_and_then_nothing_of_them_is_left(at_office):
    async def body(office, who):
        ana, conversation, marks = await traffic(office, who)
        path = f"/contacts/{ana['id']}"
        told = await office.get(f"{path}/personal-data", who)
        assert told.status_code == 200, told.text
        document = told.json()
        assert [m["text"] for m in document["conversations"][0]["messages"] if m["kind"] == "incoming"] == [
            "Hola",
            "Hola",
        ]
        assert document["contact"]["email"].split("@")[0] in marks
        assert document["channels"]
        assert document["notes"]
        held = found(office, marks)
        assert {table for table, _ in held} >= {"contacts", "messages", "contact_notes", "contact_import_failures"}
        assert {mark for _, mark in held} >= set(marks) - {marks[5]}
        before = office.rows(
            "select count(*) as n, max(sequence) as s from messages where account_id = %s", office.account
        )
        events = [(kind, n) for kind, n, _ in office.events()]

        for _ in range(2):  # once more changes nothing
            answer = await office.post(f"{path}/erase", who)
            assert answer.status_code == 202, answer.text
        assert {(table, mark) for table, mark in found(office, marks) if not table.startswith("outbox")} == set()
        await part(office, who, ana["id"])
        assert found(office, marks) == set()
        assert await on_the_bus(office, marks) == set()

        # Numbers are what they were; what is left decodes, and other services can follow.
        after = office.rows(
            "select count(*) as n, max(sequence) as s from messages where account_id = %s", office.account
        )
        assert after[0]["n"] - before[0]["n"] <= 1  # the line that tells that it was resolved
        assert [(kind, n) for kind, n, _ in office.events()][: len(events)] == events
        for row in office.rows("select headers, body from outbox where subject like %s", f"%{office.account}%"):
            decode(json.loads(row["headers"])["ce-type"], bytes(row["body"]))
        erased = next(told for kind, _, told in office.events(ana["id"]) if kind == "contact_erased")
        assert erased["conversation_ids"] == [conversation["id"]]
        assert len(erased["merged_ids"]) == 1
        state = (await office.get(f"/conversations/{conversation['id']}", who)).json()
        assert (state["status"], state["contact"]["name"], state["subject"]) == ("resolved", "", "")
        assert (await office.get("/contacts", who)).json()["items"] == []
        assert (await office.get(path, who)).json()["erased_at"] is not None

    at_office(body)


def test_an_erasure_is_done_once_every_service_says_so_and_then_the_shared_streams_are_swept(at_office):
    async def body(office, who):
        ana = await office.contact(who, name="Ana")
        path = f"/contacts/{ana['id']}"
        others = [service for service in HOLDERS if service != "conversation"]
        told = (await office.post(f"{path}/erase", who)).json()
        assert {(one["service"], one["task"]) for one in told["services"]} == {(name, "data") for name in HOLDERS}
        assert (told["done_at"], told["progress"]) == (None, 0)
        await part(office, who, ana["id"])
        for service in others:
            await answer(office, ana["id"], service)
            await answer(office, ana["id"], service)
        await part(office, who, ana["id"], task="streams")
        told = (await office.get(f"{path}/erasure", who)).json()
        sweeps = {one["service"]: one["done_at"] for one in told["services"] if one["task"] == "streams"}
        assert set(sweeps) == set(SWEEPERS)
        assert told["done_at"] is None
        assert 0.7 < told["progress"] < 1
        for service in SWEEPERS:
            if service != "conversation":
                await answer(office, ana["id"], service, sweep=True)
        await office.service.settle()
        told = (await office.get(f"{path}/erasure", who)).json()
        assert told["done_at"] is not None
        assert told["progress"] == 1
        asked = [body for kind, _, body in office.events(ana["id"]) if kind == "erase_person"]
        assert [one["sweep"] for one in asked] == [False, True]
        assert asked[0]["erasure_id"] != asked[1]["erasure_id"]

    at_office(body)


def test_who_was_erased_is_new_when_they_write_again_and_others_are_untouched(at_office):
    async def body(office, who):
        await writes(office, id="w1", name="Ana", phone="+34600111222")
        await writes(office, id="w2", name="Luz", phone="+34600111333")
        people = {c["name"]: c for c in (await office.get("/contacts", who)).json()["items"]}
        path = f"/contacts/{people['Ana']['id']}"
        assert (await office.post(f"{path}/erase", await office.who("marketing"))).status_code == 403
        assert (await office.get(f"{path}/personal-data", await office.who())).status_code == 403
        assert (await office.get(f"{path}/erasure", who)).status_code == 404
        other = await Office(office.service).open()
        stranger = await other.who("administrator")
        assert (await other.post(f"{path}/erase", stranger)).status_code == 404
        assert (await other.get(f"{path}/personal-data", stranger)).status_code == 404
        assert (await office.post(f"{path}/erase", who)).status_code == 202
        await part(office, who, people["Ana"]["id"])
        await writes(office, id="w1", name="Ana", phone="+34600111222")
        left = {c["name"]: c for c in (await office.get("/contacts", who)).json()["items"]}
        assert left.keys() == {"Ana", "Luz"}
        assert left["Luz"] == people["Luz"]
        assert left["Ana"]["id"] != people["Ana"]["id"]
        assert [told["contact"]["name"] for kind, _, told in office.events(people["Luz"]["id"])] == ["Luz"]

    at_office(body)
