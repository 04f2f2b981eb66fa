"""Personal data: told whole, and erased from every table and from the log."""

import json
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.catalogue import decode
from relevo.conversation import contacts_erasure
from relevo.conversation.domain.erasure import redacted

from .contact_office import Office, run_module
from .test_contacts_api import writes
from .test_contacts_import import imported


@pytest.fixture(scope="module")
def running_office(servers):
    """One running service; each test has an account of its own."""
    yield from run_module(servers)


@pytest.fixture
def at_office(running_office):
    """Run an async test body with an Office and an administrator."""
    service, run = running_office

    def runner(body):
        async def main():
            office = await Office(service).open()
            await body(office, await office.who("administrator"))

        run(main())

    return runner


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
        while (await office.get(f"{path}/erasure", who)).json()["done_at"] is None:
            await contacts_erasure.step(office.service.runtime.database)
        assert found(office, marks) == set()

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
        while await contacts_erasure.step(office.service.runtime.database):
            pass
        await writes(office, id="w1", name="Ana", phone="+34600111222")
        left = {c["name"]: c for c in (await office.get("/contacts", who)).json()["items"]}
        assert left.keys() == {"Ana", "Luz"}
        assert left["Luz"] == people["Luz"]
        assert left["Ana"]["id"] != people["Ana"]["id"]
        assert [told["contact"]["name"] for kind, _, told in office.events(people["Luz"]["id"])] == ["Luz"]

    at_office(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["contact", "message", "text", "name", "email", "id", "profile", "subject"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["contact", "conversation", "message", "text", "id"]), JSON))
def test_redacting_twice_is_redacting_once_and_keeps_every_key(body):
    once = redacted(body)
    assert redacted(once) == once
    assert once.keys() == body.keys()
