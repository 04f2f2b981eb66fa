"""The catalogue of labels: made once, renamed without touching anything, merged and deleted with an event for everything."""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from relevo.chassis.bus import until
from relevo.contracts.base import new_id
from relevo.contracts.conversation import ChangeLabels
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.conversation import handlers, labels
from relevo.kernel.conditions.replacing import values_of, with_values
from relevo.kernel.labels import Known, meant


async def made(desk, who, name, **more):
    answer = await desk.post("/labels", who, {"name": name} | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def named(desk, who, **asked):
    return [one["name"] for one in (await desk.get("/labels", who, **asked)).json()["items"]]


async def told(desk, kind):
    await desk.service.settle()
    stored = await desk.service.admin.stored("EVT_CONVERSATION")
    return [json.loads(body) for _, headers, body in stored if headers["ce-type"].endswith(f".{kind}.v1")]


async def over(desk, who, label, state=None):
    """Wait until a merge or a deletion is through."""

    async def done():
        answer = await desk.get(f"/labels/{label['id']}", who)
        return answer.status_code == 404 if state is None else answer.json()["state"] == state

    assert await until(done, 30)


def test_a_label_is_made_once_edited_and_listed(at_desk):
    async def body(desk):
        _, boss = await desk.agent("supervisor")
        _, eva = await desk.agent("agent")
        _, seller = await desk.agent("marketing")
        vip = await made(
            desk, boss, "  Cliente   VIP ", color="#FF8800", description="Los que más compran", sidebar=False
        )
        assert (vip["name"], vip["key"], vip["color"], vip["sidebar"]) == (
            "Cliente VIP",
            "Cliente VIP",
            "#ff8800",
            False,
        )
        await desk.refused(await desk.post("/labels", eva, {"name": "otra"}), 403, "permission_missing")
        again = await desk.post("/labels", boss, {"name": "cliente víp"})
        await desk.refused(again, 409, "label_exists", "/name")
        assert again.json()["label_id"] == vip["id"]
        assert "Ya hay una etiqueta «Cliente VIP»" in again.json()["detail"]
        english = await desk.post("/labels", boss | {"accept-language": "en"}, {"name": "CLIENTE VIP"})
        assert "There is a label “Cliente VIP” already" in english.json()["detail"]
        await desk.refused(await desk.post("/labels", boss, {"name": " "}), 422, "validation_failed", "/name")
        wrong = await desk.post("/labels", boss, {"name": "x", "color": "orange"})
        await desk.refused(wrong, 422, "validation_failed", "/color")
        first = await desk.post("/labels", boss, {"name": "Ñandú"}, idempotency_key="k")
        assert (await desk.post("/labels", boss, {"name": "Ñandú"}, idempotency_key="k")).json() == first.json()

        path = f"/labels/{vip['id']}"
        assert (await desk.send("PATCH", path, boss, {"sidebar": True})).status_code == 428
        stale = await desk.send("PATCH", path, boss | {"if-match": '"9"'}, {"sidebar": True})
        await desk.refused(stale, 412, "changed_meanwhile")
        edited = await desk.send("PATCH", path, boss | {"if-match": '"1"'}, {"sidebar": True, "description": ""})
        assert (edited.json()["sidebar"], edited.json()["description"], edited.json()["version"]) == (True, "", 2)
        assert edited.json()["updated_by"].startswith("agent:")

        for name in ("beta", "Ángel", "alfa"):
            await made(desk, boss, name)
        assert await named(desk, seller) == ["alfa", "Ángel", "beta", "Cliente VIP", "Ñandú"]
        page = (await desk.get("/labels", eva, limit=2)).json()
        assert await named(desk, eva, limit=3, cursor=page["next"]) == ["beta", "Cliente VIP", "Ñandú"]
        assert await named(desk, eva, q="ANGEL") == ["Ángel"]
        await desk.refused(await desk.get("/labels", eva, cursor="rubbish"), 422, "invalid_cursor")
        counted = (await desk.get("/labels", seller, counts=True, q="vip")).json()["items"][0]
        assert (counted["conversations"], counted["contacts"]) == (None, {"count": 0, "more": False})
        events = await told(desk, "label_changed")
        assert [event["label"]["name"] for event in events if event["label"]["id"] == vip["id"]] == ["Cliente VIP"] * 2

    at_desk(body)


def test_uses_are_counted_for_who_may_read_them(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        _, seller = await desk.agent("marketing")
        only_talks = frozenset({Permission.CONVERSATIONS_READ})
        _, blind = await desk.agent(permissions=only_talks, scope=ConversationScope.OWN)
        path = await desk.begun(boss)
        await desk.post(f"{path}/labels", boss, {"add": ["vip"]})
        (label,) = (await desk.get("/labels", boss)).json()["items"]
        uses = [(await desk.get(f"/labels/{label['id']}", who)).json() for who in (boss, seller, blind)]
        assert [one["conversations"] and one["conversations"]["count"] for one in uses] == [1, None, 0]
        assert [one["contacts"] and one["contacts"]["count"] for one in uses] == [0, 0, None]

    at_desk(body)


def test_another_name_is_at_once_everywhere_and_touches_nothing(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        path = await desk.begun(boss)
        label = await made(desk, boss, "vip")
        await desk.post(f"{path}/labels", boss, {"add": ["VIP"]})
        contact = (await desk.post("/contacts", boss, {"name": "Luz", "labels": ["Vip"]})).json()
        assert contact["labels"] == ["vip"], "however it is spelled, it is that one"
        view = (await desk.post("/views", boss, {"name": "v", "filters": {"label": ["vip"]}})).json()
        wanted = {"field": "labels", "operator": "contains_any", "value": ["vip"]}
        segment = (await desk.post("/segments", boss, {"name": "s", "filter": wanted})).json()
        before = len(await told(desk, "labels_changed")), len(await told(desk, "contact_updated"))

        renamed = await desk.send(
            "PATCH", f"/labels/{label['id']}", boss | {"if-match": "*"}, {"name": "Cuentas clave"}
        )
        assert (renamed.json()["name"], renamed.json()["key"]) == ("Cuentas clave", "vip")
        assert (len(await told(desk, "labels_changed")), len(await told(desk, "contact_updated"))) == before
        for name in ("Cuentas clave", "cuentas CLAVE", "vip"):
            assert len((await desk.get("/conversations", boss, label=name)).json()["items"]) == 1, name
            assert len((await desk.get("/contacts", boss, label=name)).json()["items"]) == 1, name
            found = await desk.post("/contacts/filter", boss, {"filter": wanted | {"value": [name]}})
            assert len(found.json()["items"]) == 1, name
        assert len((await desk.get("/conversations", boss, saved=view["id"])).json()["items"]) == 1
        assert len((await desk.post("/contacts/filter", boss, {"segment_id": segment["id"]})).json()["items"]) == 1
        assert await desk.lines(path, boss) == ["Eva Ruiz etiquetó con Cuentas clave."]
        exported = await desk.post("/contacts/export", boss, {"columns": ["name", "labels"]})
        assert "Luz,Cuentas clave" in exported.text

        # Saved by its new name, a view holds through the next rename; and nobody takes what it was called.
        view = (await desk.post("/views", boss, {"name": "w", "filters": {"label": ["Cuentas clave"]}})).json()
        await desk.send("PATCH", f"/labels/{label['id']}", boss | {"if-match": "*"}, {"name": "Clave"})
        assert len((await desk.get("/conversations", boss, saved=view["id"])).json()["items"]) == 1
        taken = await desk.post("/labels", boss, {"name": "vip"})
        await desk.refused(taken, 409, "label_name_was_used", "/name")
        other = await made(desk, boss, "Otra")
        clash = await desk.send("PATCH", f"/labels/{other['id']}", boss | {"if-match": "*"}, {"name": "CLAVE"})
        await desk.refused(clash, 409, "label_exists", "/name")

    at_desk(body)


def test_what_is_used_before_it_is_made_is_in_the_catalogue(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        path = await desk.begun(boss)
        conversation = path.rpartition("/")[2]
        command = desk.world.command(ChangeLabels(conversation_id=conversation, add=("por regla",)), conversation)
        database = desk.service.runtime.database
        for _ in range(2):
            async with database.begin(desk.world.account_id) as tx:
                await handlers.on_commands([command], tx)
        await desk.post(f"{path}/labels", boss, {"add": ["por API"], "remove": ["nunca usada"]})
        await desk.post("/contacts", boss, {"name": "Luz", "labels": ["de contacto"]})
        await desk.post(
            "/conversations/bulk", boss, {"act": {"do": "labels", "add": ["a muchas"]}, "ids": [conversation]}
        )

        async def there():
            return "a muchas" in await named(desk, boss)

        assert await until(there, 30)
        assert await named(desk, boss) == ["a muchas", "de contacto", "por API", "por regla"]
        events = {event["label"]["name"]: event for event in await told(desk, "label_changed")}
        assert set(events) == {"a muchas", "de contacto", "por API", "por regla"}
        rows = (await desk.get("/labels", boss)).json()["items"]
        assert next(row for row in rows if row["name"] == "por regla")["updated_by"] == "rule:r1"
        # Many at once make it once.
        names = {"add": ["nueva"]}
        answers = await asyncio.gather(*(desk.post(f"{path}/labels", boss, names) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await named(desk, boss)).count("nueva") == 1

    at_desk(body)


def test_one_label_comes_of_all_the_ways_in_which_it_is_spelled_at_once(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        path = await desk.begun(boss)
        answer = await desk.post(f"{path}/labels", boss, {"add": ["Envío", "urgente", "ENVIO"], "remove": ["envio"]})
        assert sorted(answer.json()["labels"]) == ["Envío", "urgente"]
        assert await named(desk, boss) == ["Envío", "urgente"]

    at_desk(body)


def test_a_merge_and_a_deletion_tell_of_every_conversation_and_contact_once(at_desk, monkeypatch):
    async def body(desk):
        monkeypatch.setattr(labels, "BATCH", 2)
        _, boss = await desk.agent("administrator")
        for n in range(5):
            await desk.customer_writes(f"w{n}")
        ids = [one["id"] for one in (await desk.get("/conversations", boss)).json()["items"]]
        queja = await made(desk, boss, "queja")
        reclamo = await made(desk, boss, "reclamo")
        for at, id_ in enumerate(ids):
            await desk.post(
                f"/conversations/{id_}/labels", boss, {"add": ["queja", "reclamo"] if at == 0 else ["queja"]}
            )
        people = [
            (await desk.post("/contacts", boss, {"name": f"c{n}", "labels": ["queja"]})).json()["id"] for n in range(3)
        ]
        view = (await desk.post("/views", boss, {"name": "v", "filters": {"label": ["queja"]}})).json()
        wanted = {"all": [{"field": "labels", "operator": "contains_any", "value": ["queja", "reclamo"]}]}
        segment = (await desk.post("/segments", boss, {"name": "s", "filter": wanted})).json()

        path = f"/labels/{queja['id']}/merge"
        any_version = boss | {"if-match": "*"}
        await desk.refused(await desk.post(path, any_version, {"into": queja["id"]}), 422, "invalid_label", "/into")
        await desk.refused(await desk.post(path, any_version, {"into": new_id()}), 422, "invalid_label", "/into")
        merged = await desk.post(path, any_version, {"into": reclamo["id"]})
        assert (merged.status_code, merged.json()["state"], merged.json()["into_key"]) == (202, "merging", "reclamo")
        await desk.refused(await desk.send("DELETE", f"/labels/{queja['id']}", any_version), 409, "label_is_changing")
        await over(desk, boss, queja, "merged")
        after = (await desk.get("/conversations", boss, label="queja")).json()["items"]
        assert {one["id"]: one["labels"] for one in after} == {id_: ["reclamo"] for id_ in ids}
        changed = [event for event in await told(desk, "labels_changed") if event["cause"] == "merge"]
        assert sorted(event["conversation"]["id"] for event in changed) == sorted(ids)
        assert {tuple(event["removed"]) for event in changed} == {("queja",)}
        assert sum("reclamo" in event["added"] for event in changed) == 4
        updated = [event["contact"] for event in await told(desk, "contact_updated")]
        assert sorted(one["id"] for one in updated) == sorted(people)
        assert {tuple(one["labels"]) for one in updated} == {("reclamo",)}
        assert (await desk.get(f"/views/{view['id']}", boss)).json()["filters"]["label"] == ["reclamo"]
        (kept,) = [one for one in (await desk.get("/segments", boss)).json()["items"] if one["id"] == segment["id"]]
        assert kept["filter"]["all"][0]["value"] == ["reclamo"]
        # Its name stands for what it became, until it is made anew.
        await desk.post(f"/conversations/{ids[0]}/labels", boss, {"add": ["queja"]})
        assert (await desk.get(f"/conversations/{ids[0]}", boss)).json()["labels"] == ["reclamo"]
        assert await named(desk, boss) == ["reclamo"]
        again = await made(desk, boss, "queja")
        assert (again["id"], again["key"]) == (queja["id"], "queja")

        gone = await desk.send("DELETE", f"/labels/{reclamo['id']}", any_version)
        assert (gone.status_code, gone.json()["state"]) == (202, "deleting")
        assert await named(desk, boss) == ["queja"]
        await over(desk, boss, reclamo)
        assert all(one["labels"] == [] for one in (await desk.get("/conversations", boss)).json()["items"])
        deleted = [event for event in await told(desk, "labels_changed") if event["cause"] == "deletion"]
        assert sorted(event["conversation"]["id"] for event in deleted) == sorted(ids)
        assert [e["label"]["key"] for e in await told(desk, "label_changed") if e["deleted"]] == ["reclamo"]
        await desk.post(f"/conversations/{ids[0]}/labels", boss, {"add": ["reclamo"]})
        assert await named(desk, boss) == ["queja", "reclamo"]

    at_desk(body)


def test_labels_of_another_account_do_not_exist(at_desk):
    async def body(desk):
        _, boss = await desk.agent("administrator")
        label = await made(desk, boss, "vip")
        desk.world.account_id = new_id()
        _, stranger = await desk.agent("administrator")
        assert await named(desk, stranger) == []
        assert (await desk.get(f"/labels/{label['id']}", stranger)).status_code == 404
        for method, path in (("PATCH", ""), ("DELETE", "")):
            answer = await desk.send(method, f"/labels/{label['id']}{path}", stranger | {"if-match": "*"}, {})
            assert answer.status_code == 404
        own = await made(desk, stranger, "vip")
        answer = await desk.post(f"/labels/{own['id']}/merge", stranger | {"if-match": "*"}, {"into": label["id"]})
        await desk.refused(answer, 422, "invalid_label", "/into")
        _, reader = await desk.agent(permissions=frozenset({Permission.CANNED_MANAGE}))
        assert (await desk.get("/labels", reader)).status_code == 403

    at_desk(body)


def test_which_label_a_name_means():
    rows = [
        Known("vip", "Clave"),
        Known("Clave", "Otra"),
        Known("queja", "queja", "merged", "reclamo"),
        Known("Año", "Año"),
    ]
    assert meant("Clave", rows) == "vip", "what is read now goes before what another was called"
    assert meant("vip", rows) == "vip"
    assert meant("OTRA", rows) == "Clave"
    assert meant("queja", rows) == "reclamo"
    assert meant("ano", rows) is None, "ñ is a letter"
    assert meant("QUEJA", rows) is None


_names = st.sampled_from(["a", "b", "c", "d"])
_leaves = st.fixed_dictionaries(
    {
        "field": st.sampled_from(["labels", "name"]),
        "operator": st.just("contains_any"),
        "value": st.one_of(_names, st.lists(_names, max_size=4), st.none(), st.integers()),
    }
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(lambda found: {"all": found}, st.lists(inner, max_size=3)), st.builds(lambda one: {"not": one}, inner)
    ),
    max_leaves=6,
)


@given(_trees)
def test_other_values_are_put_where_the_field_is_and_nowhere_else(tree):
    replaced = with_values(tree, {"labels"}, {"a": "b"})
    assert values_of(replaced, {"labels"}) == {"b" if one == "a" else one for one in values_of(tree, {"labels"})}
    assert values_of(replaced, {"name"}) == values_of(tree, {"name"})
    assert with_values(replaced, {"labels"}, {"a": "b"}) == replaced
