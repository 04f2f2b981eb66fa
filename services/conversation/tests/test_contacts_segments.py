"""Contacts by filter, saved filters, and the export."""

import csv
import io
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo.conversation.domain.attributes import Definition
from relevo.conversation.domain.segments import condition
from relevo.kernel.conditions import compile_condition

from .contact_office import Office
from .test_contacts_import import imported, tally

ATTRIBUTES = {
    "puntos": {"kind": "number"},
    "alta": {"kind": "date"},
    "plan": {"kind": "list", "options": ["A", "B"]},
    "socio": {"kind": "checkbox"},
    "nota": {"kind": "text"},
}
DEFINITIONS = {key: Definition(key, one["kind"], tuple(one.get("options", ()))) for key, one in ATTRIBUTES.items()}
PEOPLE = [
    {"name": "Ana Núñez", "email": "ana@x.es", "city": "Cádiz", "labels": ["vip", "sur"], "attributes": {"puntos": 5}},
    {"name": "ana nunez", "phone": "+34600111222", "country": "ES", "attributes": {"puntos": 12.5, "plan": "A"}},
    {"name": "Luz", "company": "Peces, S.L.", "labels": ["sur"], "attributes": {"alta": "2024-02-29", "socio": True}},
    {"identifier": "c-9", "language": "es-MX", "attributes": {"socio": False, "plan": "B", "nota": "=1+1"}},
    {"name": "=HYPERLINK()", "email": "otra@y.es", "attributes": {"alta": "2025-12-31", "nota": "muy larga"}},
]


async def peopled(office, who):
    for key, one in ATTRIBUTES.items():
        await office.post("/attributes", who, {"key": key, "name": key.title()} | one)
    return [await office.contact(who, **person) for person in PEOPLE]


LEAVES = st.one_of(
    *(
        st.fixed_dictionaries({"field": st.just(field), "operator": st.sampled_from(operators), "value": values})
        for field, operators, values in (
            ("name", ["equals", "not_equals", "contains", "starts_with"], st.sampled_from(["ana", "núñez", "Luz"])),
            ("email", ["contains", "not_equals"], st.sampled_from(["ana@x.es", "es"])),
            ("country", ["equals", "not_equals"], st.sampled_from(["ES", "MX"])),
            ("labels", ["contains_any", "contains_all", "contains_none"], st.sampled_from([["vip"], ["vip", "sur"]])),
            ("attributes.puntos", ["greater", "at_most", "equals"], st.sampled_from([5, 12.5, 7])),
            (
                "attributes.alta",
                ["greater", "less", "at_least"],
                st.sampled_from(["2024-02-29T00:00:00Z", "2025-01-01T00:00:00Z"]),
            ),
            ("attributes.plan", ["equals", "not_equals"], st.sampled_from(["A", "B"])),
            ("attributes.socio", ["equals", "not_equals"], st.booleans()),
        )
    ),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["email", "labels", "attributes.nota", "attributes.socio", "last_activity_at"]),
            "operator": st.sampled_from(["present", "absent"]),
        }
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda nodes: {"all": nodes}),
        st.lists(inner, min_size=1, max_size=3).map(lambda nodes: {"any": nodes}),
        inner.map(lambda node: {"not": node}),
    ),
    max_leaves=6,
)


def facts(contact):
    alta = contact["attributes"].get("alta")
    own = {f"attributes.{key}": value for key, value in contact["attributes"].items()}
    return {**contact, **own, "attributes.alta": f"{alta}T00:00:00+00:00" if alta else None}


def test_a_filter_finds_exactly_those_of_whom_it_is_true(running_office):
    service, run = running_office

    async def prepare():
        office = await Office(service).open()
        who = await office.who("administrator")
        return office, who, await peopled(office, who)

    office, who, people = run(prepare())

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
    @given(TREES)
    def check(tree):
        true_of = compile_condition(condition(tree, DEFINITIONS))
        expected = {one["id"] for one in people if true_of(facts(one))}

        async def ask():
            found = await office.post("/contacts/filter", who, {"filter": tree})
            assert found.status_code == 200, (tree, found.text)
            count = await office.post("/contacts/count", who, {"filter": tree})
            return {one["id"] for one in found.json()["items"]}, count.json()["count"]

        assert run(ask()) == (expected, len(expected)), tree

    check()


def test_a_filter_that_cannot_be_used_tells_where(at_office):
    async def body(office, who):
        await peopled(office, who)
        for broken, pointer in (
            ({"field": "surname", "operator": "present"}, "/filter/field"),
            ({"all": [{"field": "name", "operator": "greater", "value": 1}]}, "/filter/all/0/operator"),
            ({"field": "attributes.puntos", "operator": "greater", "value": "x"}, "/filter/value"),
            ({"field": "name", "operator": "matches", "value": "a+"}, "/filter"),
            ({"any": []}, "/filter/any"),
            ({}, "/filter"),
        ):
            for path in ("/contacts/filter", "/contacts/count", "/contacts/export"):
                answer = await office.post(path, who, {"filter": broken})
                assert (answer.status_code, answer.json()["code"]) == (422, "invalid_filter"), broken
                assert answer.json()["errors"][0]["pointer"] == pointer
        assert (await office.post("/contacts/export", who, {"columns": ["name", "sequence"]})).status_code == 422

    at_office(body)


def test_segments_are_one_s_own_or_shared(at_office):
    async def body(office, boss):
        people = await peopled(office, boss)
        eva, luis = await office.who(), await office.who()
        sur = {"field": "labels", "operator": "contains_any", "value": ["sur"]}
        assert (await office.post("/segments", eva, {"name": "Sur", "filter": sur, "shared": True})).status_code == 403
        own = (await office.post("/segments", eva, {"name": "Sur", "filter": sur}, idempotency_key="k")).json()
        assert (await office.post("/segments", eva, {"name": "Sur", "filter": sur}, idempotency_key="k")).json() == own
        shared = (await office.post("/segments", boss, {"name": "Todos", "filter": {"all": []}, "shared": True})).json()
        assert [s["name"] for s in (await office.get("/segments", eva)).json()["items"]] == ["Sur", "Todos"]
        assert [s["name"] for s in (await office.get("/segments", luis)).json()["items"]] == ["Todos"]
        in_sur = await office.post("/contacts/filter", eva, {"segment_id": own["id"]})
        assert {c["id"] for c in in_sur.json()["items"]} == {people[0]["id"], people[2]["id"]}
        both = {"segment_id": own["id"], "filter": {"field": "name", "operator": "equals", "value": "luz"}}
        assert [c["id"] for c in (await office.post("/contacts/filter", eva, both)).json()["items"]] == [
            people[2]["id"]
        ]
        assert (await office.post("/contacts/filter", luis, {"segment_id": own["id"]})).status_code == 404
        path = f"/segments/{own['id']}"
        assert (await office.patch(path, luis, {"name": "x"})).status_code == 404
        assert (await office.patch(path, eva, {"shared": True})).status_code == 403
        assert (await office.patch(path, eva, {"name": "x"}, match=None)).status_code == 428
        edited = await office.patch(path, eva, {"name": "Del sur"}, match='"1"')
        assert (edited.json()["name"], edited.json()["filter"], edited.headers["ETag"]) == ("Del sur", sur, '"2"')
        assert (await office.patch(path, eva, {"filter": {"field": "x", "operator": "present"}})).status_code == 422
        assert (await office.delete(f"/segments/{shared['id']}", eva)).status_code == 403
        assert (await office.delete(path, eva)).status_code == 204
        # A segment of an attribute that is gone says so when it is used.
        plan = {"field": "attributes.plan", "operator": "present"}
        late = (await office.post("/segments", eva, {"name": "Con plan", "filter": plan})).json()
        (definition,) = [a for a in (await office.get("/attributes", boss)).json()["items"] if a["key"] == "plan"]
        await office.delete(f"/attributes/{definition['id']}", boss)
        answer = await office.post("/contacts/filter", eva, {"segment_id": late["id"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_filter")

    at_office(body)


def test_what_is_exported_can_be_imported_again_and_holds_no_formula(at_office):
    async def body(office, who):
        people = await peopled(office, who)
        answer = await office.post("/contacts/export", who, {})
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [row["identifier"] for row in rows] == [p["identifier"] or "" for p in reversed(people)]
        assert not any(cell.startswith(("=", "@")) for row in rows for cell in row.values())
        assert rows[0]["name"] == "'=HYPERLINK()"
        columns = [name if name not in ("created_at", "last_activity_at") else None for name in rows[0]]
        _, state = await imported(office, who, answer.content, columns)
        assert tally(state) == {"unchanged": 4, "created": 1}  # Luz has nothing that tells her from another Luz
        some = {
            "filter": {"field": "labels", "operator": "contains_any", "value": ["vip"]},
            "columns": ["email", "city"],
        }
        answer = await office.post("/contacts/export", who, some)
        assert answer.text.lstrip("\ufeff").splitlines() == ["email,city", "ana@x.es,Cádiz"]
        assert (await office.post("/contacts/export", await office.who(), {})).status_code == 403
        elsewhere = await Office(office.service).open()
        empty = await elsewhere.post("/contacts/export", await elsewhere.who("marketing"), {"columns": ["name"]})
        assert empty.text.lstrip("\ufeff").splitlines() == ["name"]

    at_office(body)


@pytest.mark.deep
def test_filters_and_the_export_of_a_hundred_thousand(at_office, record_property):
    rows = 100_000

    async def body(office, who):
        await office.post("/attributes", who, {"key": "puntos", "name": "Puntos", "kind": "number"})
        office.rows(
            "insert into contacts (id, account_id, name, email, city, labels, attributes, sequence, created_at) select "
            "gen_random_uuid(), %s, 'Cliente Núñez ' || g, 'c' || g || '@x.com', case g %% 10 when 0 then 'Cádiz' else 'Vigo' end, "
            "case g %% 100 when 0 then array['vip'] else array['x'] end, jsonb_build_object('puntos', g), 1, "
            "now() - g * interval '1 second' from generate_series(1, %s) g returning 1",
            office.account,
            rows,
        )
        office.rows("select 1 from contacts limit 1")
        async with office.service.runtime.database.pool.connection() as connection:
            await connection.execute("analyze contacts")
        for name, leaf in {
            "label": {"field": "labels", "operator": "contains_any", "value": ["vip"]},
            "city": {"field": "city", "operator": "equals", "value": "cadiz"},
            "rare number": {"field": "attributes.puntos", "operator": "equals", "value": rows - 1},
            "rare text": {"field": "name", "operator": "contains", "value": str(rows - 1)},
            "nobody": {"field": "attributes.puntos", "operator": "less", "value": 0},
        }.items():
            begun = time.perf_counter()
            answer = await office.post("/contacts/filter", who, {"filter": leaf})
            record_property(f"ms {name}", round((time.perf_counter() - begun) * 1000))
            assert answer.status_code == 200
        begun, size = time.perf_counter(), 0
        async with office.service.http.stream("POST", "/contacts/export", headers=who, json={}) as answer:
            async for chunk in answer.aiter_bytes():
                size += len(chunk)
        record_property("export seconds", round(time.perf_counter() - begun, 1))
        record_property("export bytes", size)

    at_office(body)
