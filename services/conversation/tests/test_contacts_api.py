"""Contacts over HTTP: made, read, edited, labelled, deleted; custom attributes and notes."""

import asyncio

import pytest

from relevo.chassis.statements import rendered
from relevo.contracts.base import new_id, now
from relevo.contracts.inbound import Content, Sender
from relevo.contracts.ingest import InboxState, MessageReceived
from relevo.conversation.store import profiles
from relevo.conversation.tables import contacts
from relevo.kernel.identity import sender_key

from .contact_office import Office


@pytest.fixture
def at_office(running_office):
    """Run an async test body with an Office."""
    service, run = running_office

    def runner(body):
        async def main():
            await body(await Office(service).open())

        run(main())

    return runner


async def writes(office, **sender):
    """A customer writes to the account."""
    inbox = InboxState(id=office.people.inbox, account_id=office.account, name="web", channel="webchat")
    data = MessageReceived(
        inbox=inbox,
        sender_key=sender_key(sender["id"]),
        sender=Sender(**sender),
        external_id=new_id(),
        content=Content(text="Hola"),
        occurred_at=now(),
        received_at=now(),
    )
    await office.people.tell(data, f"{inbox.id}_{sender_key(sender['id'])}")
    await office.service.settle()


def test_a_contact_is_made_once_and_read_back_in_normal_form(at_office):
    async def body(office):
        who = await office.who()
        fields = {
            "name": "  Ana   Núñez\u0000 ",
            "email": "ANA@Exámple.com",
            "phone": "+34 600 11 12 22",
            "identifier": "crm-7",
            "company": "Peces 🐟 S.L.",
            "city": "Cádiz",
            "country": "es",
            "language": "ES_mx",
            "labels": [" vip ", "vip", "Mayorista  norte"],
        }
        made = await office.post("/contacts", who, fields, idempotency_key="k1")
        assert made.status_code == 201, made.text
        again = await office.post("/contacts", who, fields, idempotency_key="k1")
        assert (again.status_code, again.json()) == (201, made.json())
        ana = made.json()
        expected = {
            "name": "Ana Núñez",
            "email": "ana@xn--exmple-qta.com",
            "phone": "+34600111222",
            "identifier": "crm-7",
            "company": "Peces 🐟 S.L.",
            "city": "Cádiz",
            "country": "ES",
            "language": "es-MX",
            "labels": ["vip", "Mayorista norte"],
            "attributes": {},
            "blocked": False,
            "sequence": 1,
            "last_activity_at": None,
        }
        assert {name: ana[name] for name in expected} == expected
        read = await office.get(f"/contacts/{ana['id']}", who)
        assert read.json() == ana | {"channels": []}
        assert read.headers["ETag"] == '"1"'
        ((kind, sequence, told),) = office.events(ana["id"])
        assert (kind, sequence, told["origin"]) == ("contact_created", 1, "manual")
        assert told["contact"]["email"] == ana["email"]
        assert told["profile"]["company"] == "Peces 🐟 S.L."
        for name in ("email", "phone", "identifier"):
            found = await office.get("/contacts", who, **{name: fields[name]})
            assert [c["id"] for c in found.json()["items"]] == [ana["id"]]
        assert len((await office.get("/contacts", who, label="vip")).json()["items"]) == 1

    at_office(body)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/name"),
        ({"name": " \u200e "}, "/name"),
        ({"email": "nadie"}, "/email"),
        ({"phone": "600111222"}, "/phone"),
        ({"identifier": "a\nb"}, "/identifier"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "x", "country": "Spain"}, "/country"),
        ({"name": "x", "language": "español"}, "/language"),
        ({"name": "x", "labels": ["bien", " "]}, "/labels/1"),
        ({"name": "x", "attributes": {"talla": 1}}, "/attributes/talla"),
        ({"name": "x", "surname": "y"}, "/surname"),
    ],
)
def test_every_field_that_is_wrong_is_named(at_office, fields, pointer):
    async def body(office):
        es, en = await office.who(), await office.who(language="en")
        answers = [await office.post("/contacts", who, fields) for who in (es, en)]
        assert [answer.status_code for answer in answers] == [422, 422], answers[0].text
        spanish, english = (answer.json()["errors"] for answer in answers)
        assert [error["pointer"] for error in spanish] == [pointer] == [error["pointer"] for error in english]
        assert spanish[0]["detail"] != english[0]["detail"]

    at_office(body)


def test_an_edit_names_the_state_it_was_made_on(at_office):
    async def body(office):
        who = await office.who()
        ana = await office.contact(who, name="Ana", email="ana@example.com", city="Vigo")
        path = f"/contacts/{ana['id']}"
        assert (await office.patch(path, who, {"name": "Eva"}, match=None)).status_code == 428
        edited = await office.patch(path, who, {"name": "Ana María", "city": None}, match='"1"')
        assert edited.status_code == 200, edited.text
        assert (edited.json()["name"], edited.json()["city"], edited.json()["email"]) == (
            "Ana María",
            "",
            "ana@example.com",
        )
        assert (edited.headers["ETag"], edited.headers["Relevo-Sequence"]) == ('"2"', "2")
        late = await office.patch(path, who, {"name": "Otra"}, match='"1"')
        assert (late.status_code, late.json()["present"]["name"], late.headers["ETag"]) == (412, "Ana María", '"2"')
        same = await office.patch(path, who, {"name": "Ana María"}, match='W/"2"')
        assert (same.status_code, same.headers["ETag"]) == (200, '"2"')
        nobody = await office.patch(path, who, {"name": None, "email": ""})
        assert (nobody.status_code, nobody.json()["code"]) == (422, "contact_is_nobody")
        assert [(kind, n, told.get("changed")) for kind, n, told in office.events(ana["id"])] == [
            ("contact_created", 1, None),
            ("contact_updated", 2, ["city", "name"]),
        ]
        assert (await office.patch(f"/contacts/{new_id()}", who, {"name": "x"})).status_code == 404

    at_office(body)


def test_two_contacts_never_share_what_identifies_them(at_office):
    async def body(office):
        who = await office.who()
        ana = await office.contact(who, email="ana@example.com", phone="+34600111222", identifier="7")
        for fields, pointer in (
            ({"email": "Ana@example.com"}, "/email"),
            ({"name": "x", "phone": "0034600111222"}, "/phone"),
            ({"identifier": " 7 "}, "/identifier"),
        ):
            answer = await office.post("/contacts", who, fields)
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["contact_id"]) == (409, "contact_exists", ana["id"])
            assert problem["errors"][0]["pointer"] == pointer
        luis = await office.contact(who, name="Luis")
        answer = await office.patch(f"/contacts/{luis['id']}", who, {"email": "ana@example.com", "name": "L"})
        assert (answer.status_code, answer.json()["contact_id"]) == (409, ana["id"])
        assert (await office.get(f"/contacts/{luis['id']}", who)).json()["name"] == "Luis"
        many = await asyncio.gather(*(office.post("/contacts", who, {"phone": "+34600999888"}) for _ in range(8)))
        assert sorted(answer.status_code for answer in many) == [201] + [409] * 7
        # Somebody else's account may know the same person.
        other = type(office)(office.service)
        await other.open()
        assert (await other.post("/contacts", await other.who(), {"email": "ana@example.com"})).status_code == 201

    at_office(body)


def test_only_who_has_no_messages_can_be_deleted(at_office):
    async def body(office):
        who = await office.who()
        await writes(office, id="w1", name="Marta", email="marta@example.com")
        (marta,) = (await office.get("/contacts", who)).json()["items"]
        refused = await office.delete(f"/contacts/{marta['id']}", who)
        assert (refused.status_code, refused.json()["code"]) == (409, "contact_has_messages")
        ana = await office.contact(who, email="ana@example.com")
        await office.post(f"/contacts/{ana['id']}/notes", who, {"text": "Llama los lunes"})
        assert (await office.delete(f"/contacts/{ana['id']}", who, match='"9"')).status_code == 412
        assert (await office.delete(f"/contacts/{ana['id']}", who)).status_code == 204
        assert (await office.get(f"/contacts/{ana['id']}", who)).status_code == 404
        assert office.rows("select 1 from contact_notes where account_id = %s", office.account) == []
        assert [(kind, n) for kind, n, _ in office.events(ana["id"])] == [
            ("contact_created", 1),
            ("contact_deleted", 2),
        ]
        # A blocked contact's messages are in no conversation, and yet they are theirs.
        await office.post(f"/contacts/{marta['id']}/block", who)
        await office.contact(who, email="ana@example.com")
        await writes(office, id="w2", name="Ana", email="ana@example.com")
        (ana,) = (await office.get("/contacts", who, email="ana@example.com")).json()["items"]
        assert (await office.delete(f"/contacts/{ana['id']}", who)).status_code == 409

    at_office(body)


def test_last_activity_is_when_they_wrote_and_orders_the_list(at_office):
    async def body(office):
        who = await office.who()
        await office.contact(who, name="Nunca escribió")
        for name in ("w1", "w2", "w3"):
            await writes(office, id=name, name=name)
        await writes(office, id="w1", name="w1")
        seen, cursor = [], None
        for _ in range(4):
            params = {"order": "active", "limit": 1} | ({"cursor": cursor} if cursor else {})
            page = (await office.get("/contacts", who, **params)).json()
            seen += [c["name"] for c in page["items"]]
            cursor = page["next"]
            if not cursor:
                break
        # To the minute: writing again at once does not write the row again.
        assert seen == ["w3", "w2", "w1"]
        assert all(c["last_activity_at"] for c in (await office.get("/contacts", who)).json()["items"][:3])
        office.rows(
            "update contact_activity set at = at - interval '1 hour' where account_id = %s returning 1", office.account
        )
        await writes(office, id="w1", name="w1")
        active = (await office.get("/contacts", who, order="active")).json()["items"]
        assert [c["name"] for c in active] == ["w1", "w3", "w2"]

    at_office(body)


def test_custom_attributes_are_of_their_kind(at_office):
    async def body(office):
        boss, who = await office.who("administrator"), await office.who()
        assert (
            await office.post("/attributes", who, {"key": "talla", "name": "Talla", "kind": "text"})
        ).status_code == 403
        good = {
            "nota": ({"kind": "text"}, " Pie 🦶 ", "Pie 🦶"),
            "puntos": ({"kind": "number"}, 12.5, 12.5),
            "deuda": ({"kind": "currency", "currency": "EUR"}, -3, -3),
            "descuento": ({"kind": "percent"}, 10, 10),
            "alta": ({"kind": "date"}, "2024-02-29", "2024-02-29"),
            "plan": ({"kind": "list", "options": ["Básico", "Año"]}, "Año", "Año"),
            "socio": ({"kind": "checkbox"}, False, False),
            "web": ({"kind": "link"}, "https://ejemplo.es/á?b=1", "https://ejemplo.es/á?b=1"),
        }
        for key, (more, _, _) in good.items():
            made = await office.post("/attributes", boss, {"key": key, "name": key.title()} | more)
            assert made.status_code == 201, made.text
        listed = (await office.get("/attributes", who, entity="contact")).json()["items"]
        assert [a["key"] for a in listed] == sorted(good)
        ana = await office.contact(who, name="Ana", attributes={key: value for key, (_, value, _) in good.items()})
        assert ana["attributes"] == {key: stored for key, (_, _, stored) in good.items()}
        path = f"/contacts/{ana['id']}"
        for key, value in {
            "nota": 5,
            "puntos": "12",
            "deuda": True,
            "descuento": 1e18,
            "alta": "2023-02-29",
            "plan": "Ano",
            "socio": 0,
            "web": "javascript:alert(1)",
            "nada": "x",
        }.items():
            answer = await office.patch(path, who, {"attributes": {key: value}})
            assert answer.status_code == 422, (key, answer.text)
            assert answer.json()["errors"][0]["pointer"] == f"/attributes/{key}"
        edited = await office.patch(path, who, {"attributes": {"plan": None, "socio": True, "puntos": 12.5}})
        assert "plan" not in edited.json()["attributes"]
        assert office.events(ana["id"])[-1][2]["changed"] == ["attributes.plan", "attributes.socio"]

    at_office(body)


def test_a_definition_keeps_its_kind_for_ever(at_office):
    async def body(office):
        boss = await office.who("administrator")
        plan = {"key": "plan", "name": "Plan", "kind": "list", "options": ["A", "B"]}
        made = (await office.post("/attributes", boss, plan)).json()
        path = f"/attributes/{made['id']}"
        assert (await office.post("/attributes", boss, plan)).json()["code"] == "attribute_exists"
        assert (await office.post("/attributes", boss, plan | {"entity": "conversation"})).status_code == 201
        for broken in (
            {"key": "p", "name": "P", "kind": "list"},
            {"key": "p", "name": "P", "kind": "currency"},
            {"key": "P", "name": "P", "kind": "text"},
            {"key": "p", "name": " ", "kind": "text"},
            {"key": "p", "name": "P", "kind": "list", "options": ["Sí", "si"]},
        ):
            assert (await office.post("/attributes", boss, broken)).status_code == 422, broken
        assert (await office.patch(path, boss, {"options": ["A"]}, match=None)).status_code == 428
        edited = await office.patch(path, boss, {"options": ["A", "C"], "name": "Tarifa"}, match='"1"')
        assert (edited.json()["options"], edited.json()["version"]) == (["A", "C"], 2)
        assert (await office.patch(path, boss, {"name": "x"}, match='"1"')).status_code == 412
        assert (await office.delete(path, boss)).status_code == 204
        assert (await office.get("/attributes", boss, entity="contact")).json()["items"] == []
        other = await office.post("/attributes", boss, {"key": "plan", "name": "Plan", "kind": "text"})
        assert (other.status_code, other.json()["code"]) == (409, "attribute_exists")
        again = await office.post("/attributes", boss, plan)
        assert (again.status_code, again.json()["id"], again.json()["version"]) == (201, made["id"], 4)

    at_office(body)


def test_notes_are_of_who_wrote_them(at_office):
    async def body(office):
        who, other, boss = await office.who(), await office.who(), await office.who("administrator")
        reader = await office.who("auditor")
        ana = await office.contact(who, name="Ana")
        path = f"/contacts/{ana['id']}/notes"
        notes = [(await office.post(path, who, {"text": f"nota {n}"})).json() for n in range(3)]
        page = (await office.get(path, reader, limit=2)).json()
        rest = (await office.get(path, reader, limit=2, cursor=page["next"])).json()
        assert [n["text"] for n in page["items"] + rest["items"]] == ["nota 2", "nota 1", "nota 0"]
        assert page["items"][0]["author_name"] == "eva"
        one = f"{path}/{notes[0]['id']}"
        assert (await office.patch(one, other, {"text": "x"})).json()["code"] == "note_of_another"
        assert (await office.patch(one, who, {"text": "nueva"})).json()["edited_at"] is not None
        assert (await office.post(path, reader, {"text": "x"})).status_code == 403
        assert (await office.post(path, who, {"text": " \n"})).status_code == 422
        assert (await office.delete(one, other)).status_code == 403
        assert (await office.delete(one, boss)).status_code == 204
        elsewhere = type(office)(office.service)
        await elsewhere.open()
        stranger = await elsewhere.who("administrator")
        for answer in (
            await office.get(path, stranger),
            await office.post(path, stranger, {"text": "x"}),
            await office.delete(f"{path}/{notes[1]['id']}", stranger),
            await office.patch(f"/contacts/{ana['id']}", stranger, {"name": "x"}),
            await office.post(f"/contacts/{ana['id']}/labels", stranger, {"add": ["x"]}),
        ):
            assert answer.status_code == 404, answer.text

    at_office(body)


def test_labels_go_on_and_off(at_office):
    async def body(office):
        who = await office.who()
        ana = await office.contact(who, name="Ana", labels=["a", "b"])
        path = f"/contacts/{ana['id']}/labels"
        answer = await office.post(path, who, {"add": ["c", "a"], "remove": ["b", "z"]})
        assert (answer.json()["labels"], answer.json()["sequence"]) == (["a", "c"], 2)
        same = await office.post(path, who, {"add": ["a"]})
        assert same.json()["sequence"] == 2
        for n in range(2):
            await office.post(path, who, {"add": [f"{n}-{m}" for m in range(49)]})
        full = await office.post(path, who, {"add": ["una más"]})
        assert (full.status_code, full.json()["code"]) == (409, "too_many_labels")

    at_office(body)


def test_lists_of_contacts_use_their_indexes(at_office):
    async def body(office):
        office.rows(
            "insert into contacts (id, account_id, name, email, phone, identifier, sequence, created_at) "
            "select gen_random_uuid(), %s, 'c' || g, 'c' || g || '@x.com', '+34' || (600000000 + g), 'i' || g, 1, "
            "now() - g * interval '1 second' from generate_series(1, 20000) g returning 1",
            office.account,
        )
        office.rows(
            "insert into contact_activity select id, account_id, created_at from contacts "
            "where length(name) < 5 and account_id = %s returning 1",
            office.account,
        )
        async with office.service.runtime.database.pool.connection() as connection:
            await connection.execute("analyze")
            c = contacts.c
            after = (now(), new_id())
            for index, statement in {
                "contacts_newest": profiles.page_of_contacts(office.account, [], 50, after),
                "contact_activity_newest": profiles.page_of_contacts(office.account, [], 50, after, "active"),
                "contacts_email": profiles.page_of_contacts(office.account, [c.email == "c9@x.com"], 50, None),
                "contacts_phone": profiles.page_of_contacts(office.account, [c.phone == "+34600000009"], 50, None),
                "contacts_identifier": profiles.page_of_contacts(office.account, [c.identifier == "i9"], 50, None),
                "contacts_labels": profiles.page_of_contacts(office.account, [c.labels.contains(["z"])], 50, None),
            }.items():
                sql, values = rendered(statement, None)
                rows = await (await connection.execute(f"explain {sql}", values)).fetchall()
                plan = "\n".join(row[0] for row in rows)
                assert index in plan, (index, plan)
                assert "Seq Scan" not in plan, plan

    at_office(body)
