"""Contacts that are one person: merged, and told apart again."""

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.base import new_id
from relevo.conversation.domain.merge import merged, restored, unmerged
from relevo.conversation.domain.profile import Person, edit

from .contact_office import Office
from .test_contacts_api import writes


def people(mark):
    return st.builds(
        Person,
        id=st.just(mark),
        account_id=st.just("a"),
        name=st.sampled_from(["", "Ana", f"{mark}"]),
        email=st.sampled_from([None, f"{mark}@x.es"]),
        phone=st.sampled_from([None, f"+3460000000{len(mark)}"]),
        identifier=st.sampled_from([None, mark]),
        language=st.sampled_from([None, "es"]),
        company=st.sampled_from(["", "Peces"]),
        city=st.sampled_from(["", "Cádiz"]),
        country=st.sampled_from([None, "ES"]),
        labels=st.sampled_from([(), ("vip",), ("sur", "vip")]),
        attributes=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([1, True, "x"])),
        owner_id=st.sampled_from([None, "eva", mark]),
    )


@given(people("b"), people("other"))
def test_the_base_wins_the_other_fills_and_undoing_gives_both_back(base, other):
    after = merged(base, other).person
    for name in ("name", "email", "phone", "identifier", "language", "company", "city", "country"):
        assert getattr(after, name) == (getattr(base, name) or getattr(other, name))
    assert after.owner_id == (base.owner_id or other.owner_id)
    assert after.attributes == {**other.attributes, **base.attributes}
    assert set(after.labels) == {*base.labels, *other.labels}
    back = unmerged(after, base, other).person
    assert replace(back, sequence=0) == replace(base, sequence=0)
    assert replace(restored(other), sequence=0) == replace(other, sequence=0)


@given(people("b"), people("other"))
def test_what_was_edited_since_stays_but_what_identifies_the_other_goes_back(base, other):
    after = merged(base, other).person
    edited = edit(after, {"city": "Lugo", "name": "Otro nombre", "email": other.email}, {"a": "nuevo"}).person
    back = unmerged(edited, base, other).person
    assert (back.city, back.name, back.attributes["a"]) == ("Lugo", "Otro nombre", "nuevo")
    assert other.email is None or back.email != other.email


async def two(office, who):
    """Ana, made by hand with an e-mail, and the same Ana who wrote on the web."""
    ana = await office.contact(who, name="Ana Núñez", email="ana@x.es", labels=["vip"])
    await writes(office, id="w-ana", name="anita", phone="+34600111222")
    (web,) = (await office.get("/contacts", who, phone="+34600111222")).json()["items"]
    await office.post(f"/contacts/{web['id']}/notes", who, {"text": "escribe de noche"})
    await office.post(f"/contacts/{web['id']}/labels", who, {"add": ["web"]})
    return ana, web


def test_everything_becomes_the_base_s_and_goes_back(at_office):
    async def body(office, who):
        ana, web = await two(office, who)
        (conversation,) = (await office.get("/conversations", who)).json()["items"]
        path = f"/contacts/{ana['id']}"
        done = await office.post(f"{path}/merge", who, {"other_id": web["id"]}, idempotency_key="k")
        assert done.status_code == 201, done.text
        again = await office.post(f"{path}/merge", who, {"other_id": web["id"]}, idempotency_key="k")
        assert again.json() == done.json()
        contact, merge = done.json()["contact"], done.json()["merge"]
        assert (contact["name"], contact["email"], contact["phone"]) == ("Ana Núñez", "ana@x.es", "+34600111222")
        assert (contact["labels"], contact["sequence"]) == (["vip", "web"], 2)
        gone = await office.get(f"/contacts/{web['id']}", who)
        assert (gone.status_code, gone.json()["code"], gone.json()["merged_into"]) == (404, "contact_merged", ana["id"])
        now_of = (await office.get(f"/conversations/{conversation['id']}", who)).json()
        assert now_of["contact"]["id"] == ana["id"]
        assert (await office.get(path, who)).json()["channels"][0]["source_id"] == "w-ana"
        assert (await office.get(path, who)).json()["last_activity_at"] is not None
        assert [n["text"] for n in (await office.get(f"{path}/notes", who)).json()["items"]] == ["escribe de noche"]
        assert [c["id"] for c in (await office.get("/conversations", who, contact=ana["id"])).json()["items"]] == [
            conversation["id"]
        ]
        # They write again over their own channel: it is the base who writes.
        await writes(office, id="w-ana", name="anita")
        assert (await office.get(f"/conversations/{conversation['id']}", who)).json()["message_count"] == 2
        assert [(k, n) for k, n, _ in office.events(web["id"])][-1] == ("contact_merged", 4 - 1)
        story = [n for _, n, _ in office.events(conversation["id"])]
        assert story == list(range(1, len(story) + 1))
        changed = [told for kind, _, told in office.events(conversation["id"]) if kind == "contact_changed"]
        assert [(one["from_contact_id"], one["conversation"]["contact"]["id"]) for one in changed] == [
            (web["id"], ana["id"])
        ]
        assert [m["id"] for m in (await office.get(f"{path}/merges", who)).json()["items"]] == [merge["id"]]

        await office.patch(path, who, {"city": "Lugo"})
        undone = await office.post(f"/contacts/merges/{merge['id']}/undo", who)
        assert undone.status_code == 200, undone.text
        assert undone.json()["contact"]["phone"] is None
        assert (undone.json()["contact"]["city"], undone.json()["contact"]["labels"]) == ("Lugo", ["vip"])
        back = (await office.get(f"/contacts/{web['id']}", who)).json()
        assert {name: back[name] for name in ("name", "phone", "labels", "created_at")} == {
            "name": "anita",
            "phone": "+34600111222",
            "labels": ["web"],
            "created_at": web["created_at"],
        }
        assert [c["source_id"] for c in back["channels"]] == ["w-ana"]
        assert (await office.get(f"/conversations/{conversation['id']}", who)).json()["contact"]["id"] == web["id"]
        assert (await office.get(f"{path}/notes", who)).json()["items"] == []
        assert [n for _, n, _ in office.events(web["id"])] == [1, 2, 3, 4]
        assert [n for _, n, _ in office.events(ana["id"])] == [1, 2, 3, 4]
        twice = await office.post(f"/contacts/merges/{merge['id']}/undo", who)
        assert (twice.status_code, twice.json()["code"]) == (409, "merge_undone")
        await writes(office, id="w-ana", name="anita")
        assert (await office.get(f"/conversations/{conversation['id']}", who)).json()["contact"]["id"] == web["id"]

    at_office(body)


def test_what_is_over_goes_along_and_comes_back_too(at_office):
    async def body(office, who):
        ana, web = await two(office, who)
        (conversation,) = (await office.get("/conversations", who)).json()["items"]
        path = f"/conversations/{conversation['id']}"
        for act in ("resolve", "archive"):
            assert (await office.post(f"{path}/{act}", who)).status_code == 200
            done = await office.post(f"/contacts/{ana['id']}/merge", who, {"other_id": web["id"]})
            assert done.status_code == 201, done.text
            assert (await office.get(path, who)).json()["contact"]["id"] == ana["id"]
            undone = await office.post(f"/contacts/merges/{done.json()['merge']['id']}/undo", who)
            assert undone.status_code == 200, undone.text
            assert (await office.get(path, who)).json()["contact"]["id"] == web["id"]

    at_office(body)


def test_merges_of_merges_are_undone_last_first(at_office):
    async def body(office, who):
        a, b, c = [await office.contact(who, name=n, email=f"{n}@x.es") for n in "abc"]
        first = (await office.post(f"/contacts/{b['id']}/merge", who, {"other_id": c["id"]})).json()["merge"]
        second = (await office.post(f"/contacts/{a['id']}/merge", who, {"other_id": b["id"]})).json()["merge"]
        early = await office.post(f"/contacts/merges/{first['id']}/undo", who)
        assert (early.status_code, early.json()["code"]) == (409, "merge_not_last")
        for merge in (second, first):
            assert (await office.post(f"/contacts/merges/{merge['id']}/undo", who)).status_code == 200
        assert {x["email"] for x in (await office.get("/contacts", who)).json()["items"]} == {
            "a@x.es",
            "b@x.es",
            "c@x.es",
        }
        # What must go back is another's by now.
        third = (await office.post(f"/contacts/{a['id']}/merge", who, {"other_id": b["id"]})).json()["merge"]
        await office.contact(who, email="b@x.es")
        taken = await office.post(f"/contacts/merges/{third['id']}/undo", who)
        assert (taken.status_code, taken.json()["code"]) == (409, "contact_exists")
        office.rows("update contact_merges set merged_at = merged_at - interval '31 days' returning 1")
        assert (await office.post(f"/contacts/merges/{third['id']}/undo", who)).status_code == 404

    at_office(body)


def test_who_may_merge_what(at_office):
    async def body(office, who):
        a, b = [await office.contact(who, name=n) for n in "ab"]
        path = f"/contacts/{a['id']}/merge"
        assert (await office.post(path, await office.who(), {"other_id": b["id"]})).status_code == 403
        itself = await office.post(path, who, {"other_id": a["id"]})
        assert (itself.status_code, itself.json()["errors"][0]["pointer"]) == (422, "/other_id")
        assert (await office.post(path, who, {"other_id": new_id()})).status_code == 404
        merge = (await office.post(path, who, {"other_id": b["id"]})).json()["merge"]
        other = await Office(office.service).open()
        stranger = await other.who("administrator")
        theirs = await other.contact(stranger, name="c")
        assert (await other.post(path, stranger, {"other_id": theirs["id"]})).status_code == 404
        assert (await other.post(f"/contacts/{theirs['id']}/merge", stranger, {"other_id": a["id"]})).status_code == 404
        assert (await other.post(f"/contacts/merges/{merge['id']}/undo", stranger)).status_code == 404

    at_office(body)


def test_merges_both_ways_at_once_and_messages_meanwhile_leave_one_contact_and_every_message(at_office):
    async def body(office, who):
        ana, web = await two(office, who)

        async def merge(base, other):
            return (await office.post(f"/contacts/{base}/merge", who, {"other_id": other})).status_code

        async def write():
            for _ in range(5):
                await writes(office, id="w-ana", name="anita")

        outcome = await asyncio.gather(merge(ana["id"], web["id"]), merge(web["id"], ana["id"]), write())
        assert sorted(outcome[:2]) == [201, 404]
        await office.service.settle()
        (left,) = (await office.get("/contacts", who)).json()["items"]
        (conversation,) = (await office.get("/conversations", who)).json()["items"]
        assert (conversation["contact"]["id"], conversation["message_count"]) == (left["id"], 6)
        assert (
            office.rows(
                "select 1 from contact_channels where account_id = %s and contact_id <> %s", office.account, left["id"]
            )
            == []
        )

    at_office(body)
