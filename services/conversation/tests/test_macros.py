"""Macros: named acts, one's own or everybody's, done with one click to one or many conversations."""

import json

from relevo.contracts.base import new_id
from relevo.contracts.identity import TeamState
from relevo.contracts.permissions import Permission

from .test_bulk import finished, start

CLOSE = {
    "name": "Cerrar con gracias",
    "acts": [
        {"do": "message", "text": "Gracias por escribirnos."},
        {"do": "labels", "add": ["cerrada"]},
        {"do": "assign", "to": "me"},
        {"do": "resolve"},
    ],
}


async def _make(desk, who, **more) -> dict:
    answer = await desk.post("/macros", who, {**CLOSE, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _commands(desk) -> list[tuple[str, dict]]:
    """(actor, body) of everything that assignment was asked for."""
    found = await desk.service.admin.stored("CMD_ASSIGNMENT")
    return [(headers["relevo-actor"], json.loads(body)) for _, headers, body in found]


def test_one_click_does_all_of_it_in_order_to_many(at_desk):
    async def body(desk):
        eva, hers = await desk.agent("administrator")
        for n in range(3):
            await desk.customer_writes(f"c{n}")
        ids = [c["id"] for c in (await desk.get("/conversations", hers)).json()["items"]]
        await desk.post(f"/conversations/{ids[0]}/resolve", hers)
        macro = await _make(desk, hers)
        job = await start(desk, hers, {"do": "macro", "macro_id": macro["id"]}, ids=[*ids, new_id()])
        assert (job["total"], job["changed"], job["refused"]) == (4, 3, 2)
        # What a conversation does not allow is told, and the rest is done there, too.
        assert {(r["conversation_id"] in ids, r["code"]) for r in job["refusals"]} == {
            (True, "conversation_already_resolved"),
            (False, "conversation_not_found"),
        }
        for id_ in ids:
            shown = (await desk.get(f"/conversations/{id_}", hers)).json()
            assert (shown["status"], shown["labels"], shown["last_responder_id"]) == ("resolved", ["cerrada"], eva)
            items = (await desk.get(f"/conversations/{id_}/messages", hers)).json()["items"]
            (said,) = [one for one in items if one["kind"] == "outgoing"]
            assert (said["text"], said["author"], said["author_name"]) == (
                "Gracias por escribirnos.",
                f"agent:{eva}",
                "Eva Ruiz",
            )
        asked = await _commands(desk)
        assert {(actor, one["conversation_id"], one["assignee_id"]) for actor, one in asked} == {
            (f"agent:{eva}", id_, eva) for id_ in ids
        }
        assert len(await desk.service.admin.stored("OUTBOUND")) == 3

    at_desk(body)


def test_every_act_of_a_macro_is_done(at_desk):
    async def body(desk):
        luis, _ = await desk.agent()
        _, hers = await desk.agent("administrator")
        team = TeamState(id=new_id(), account_id=desk.world.account_id, name="Ventas", member_ids=(luis,))
        await desk.know("team", team)
        definition = {"entity": "conversation", "key": "plan", "name": "Plan", "kind": "text"}
        await desk.post("/attributes", hers, definition)
        path = await desk.begun(hers)
        acts = [
            {"do": "message", "text": "Mirad esto", "private": True, "mentions": [f"team:{team.id}"]},
            {"do": "priority", "priority": "urgent"},
            {"do": "attributes", "attributes": {"plan": "oro"}},
            {"do": "assign", "to": "team", "id": team.id},
            {"do": "snooze", "hours": 2},
        ]
        macro = await _make(desk, hers, acts=acts)
        job = await start(desk, hers, {"do": "macro", "macro_id": macro["id"]}, ids=[path.rpartition("/")[2]])
        assert (job["changed"], job["refusals"]) == (1, [])
        shown = (await desk.get(path, hers)).json()
        assert (shown["status"], shown["priority"], shown["attributes"]) == ("snoozed", "urgent", {"plan": "oro"})
        assert shown["participant_ids"] == [luis]
        ((_, asked),) = await _commands(desk)
        assert (asked["team_id"], asked["assignee_id"]) == (team.id, None)

    at_desk(body)


def test_macros_are_one_s_own_or_shared(at_desk):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        _, eva = await desk.agent()
        _, luis = await desk.agent()

        async def names(who) -> list[str]:
            return [one["name"] for one in (await desk.get("/macros", who)).json()["items"]]

        own = await _make(desk, eva, name="mía")
        await desk.refused(await desk.post("/macros", eva, {**CLOSE, "shared": True}), 403, "permission_missing")
        shared = await _make(desk, admin, name="de todos", shared=True)
        assert (await names(eva), await names(luis)) == (["de todos", "mía"], ["de todos"])
        mine, ours = f"/macros/{own['id']}", f"/macros/{shared['id']}"
        tag = {"if-match": '"1"'}
        await desk.refused(await desk.send("PATCH", mine, luis | tag, {"name": "x"}), 404, "macro_not_found")
        await desk.refused(await desk.send("PATCH", ours, eva | tag, {"name": "x"}), 403, "permission_missing")
        await desk.refused(await desk.send("PATCH", mine, eva | tag, {"shared": True}), 403, "permission_missing")
        await desk.refused(
            await desk.send("PATCH", mine, eva | {"if-match": '"9"'}, {"name": "x"}), 412, "changed_meanwhile"
        )
        edited = await desk.send("PATCH", mine, eva | tag, {"acts": [{"do": "archive"}]})
        assert (edited.json()["version"], edited.json()["name"]) == (2, "mía")
        assert edited.json()["acts"] == [{"do": "archive"}]
        run = {"act": {"do": "macro", "macro_id": own["id"]}, "ids": [new_id()]}
        await desk.refused(await desk.post("/conversations/bulk", luis, run), 404, "macro_not_found")
        assert (await desk.send("DELETE", mine, eva | {"if-match": '"2"'})).status_code == 204
        await desk.refused(await desk.send("DELETE", ours, eva | tag), 403, "permission_missing")
        assert (await desk.send("DELETE", ours, admin | tag)).status_code == 204
        assert await names(eva) == []

    at_desk(body)


def test_what_no_database_takes_is_taken_out_of_texts_and_names(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        acts = [
            {"do": "labels", "add": ["ur\0gente"]},
            {"do": "attributes", "attributes": {"pla\0n": "oro\0"}},
            {"do": "message", "text": "Ho\0la"},
        ]
        macro = await _make(desk, eva, name="Una\0", acts=acts)
        said = [macro["name"], *(one.get("text") or one.get("attributes") or one["add"] for one in macro["acts"])]
        assert said == ["Una", ["urgente"], {"plan": "oro"}, "Hola"]
        edited = await desk.send("PATCH", f"/macros/{macro['id']}", eva | {"if-match": '"1"'}, {"name": "Otra\0"})
        assert edited.json()["name"] == "Otra"

    at_desk(body)


def test_who_runs_a_macro_needs_what_its_acts_need(at_desk):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        reading = frozenset({Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_LABEL})
        _, reader = await desk.agent(permissions=reading)
        path = await desk.begun(admin)
        macro = await _make(desk, admin, shared=True)
        run = {"act": {"do": "macro", "macro_id": macro["id"]}, "ids": [path.rpartition("/")[2]]}
        await desk.refused(await desk.post("/conversations/bulk", reader, run), 403, "permission_missing")
        assert await _commands(desk) == []
        # What runs already goes on as it began, whatever becomes of the macro.
        begun = (await desk.post("/conversations/bulk", admin, run)).json()
        await desk.send("DELETE", f"/macros/{macro['id']}", admin | {"if-match": '"1"'})
        assert (await finished(desk, admin, begun))["changed"] == 1

    at_desk(body)


def test_what_cannot_be_done_is_refused_when_it_is_written(at_desk):
    async def body(desk):
        _, who = await desk.agent()

        async def faults(*acts) -> list[str]:
            answer = await desk.post("/macros", who, {"name": "m", "acts": list(acts)})
            assert answer.status_code == 422, answer.text
            return [error["pointer"] for error in answer.json()["errors"]]

        assert await faults() == ["/acts"]
        assert await faults({"do": "assign", "to": "agent", "id": new_id()}) == ["/acts/0/id"]
        unknown = {"do": "message", "text": "x", "private": True, "mentions": [f"team:{new_id()}"]}
        assert await faults({"do": "resolve"}, unknown) == ["/acts/1/mentions/0"]
        for wrong in ({"do": "assign", "to": "team"}, {"do": "explode"}, {**unknown, "private": False}):
            (pointer,) = await faults(wrong)
            assert pointer.startswith("/acts/0")

    at_desk(body)
