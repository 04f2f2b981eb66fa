"""What is said, quoted, changed, said again and said later."""

import json
from datetime import timedelta

from relevo.chassis.bus import until
from relevo.contracts.base import new_id, now


async def outbound(desk):
    await desk.service.settle()
    return [json.loads(body) for _, _, body in await desk.service.admin.stored("OUTBOUND")]


async def said(desk, path, who):
    items = (await desk.get(f"{path}/messages", who)).json()["items"]
    return [m for m in items if m["kind"] != "activity"]


def test_a_reply_quotes_what_the_customer_can_see_and_never_a_note(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva, "¿Cuánto cuesta?")
        other = await desk.begun(eva, "Otra persona", who="34600111333")
        (question,) = await said(desk, path, eva)
        answer = await desk.post(f"{path}/messages", eva, {"text": "12 €", "reply_to": question["id"]})
        assert answer.json()["reply_to"] == question["id"]
        (sent,) = await outbound(desk)
        assert sent["reply_to"] == question["external_id"]
        note = await desk.post(f"{path}/messages", eva, {"text": "ojo", "private": True, "reply_to": question["id"]})
        assert note.status_code == 201
        leak = {"text": "x", "reply_to": note.json()["id"]}
        await desk.refused(await desk.post(f"{path}/messages", eva, leak), 422, "cannot_answer_that", "/reply_to")
        assert (await desk.post(f"{path}/messages", eva, leak | {"private": True})).status_code == 201
        elsewhere = {"text": "x", "reply_to": question["id"]}
        await desk.refused(await desk.post(f"{other}/messages", eva, elsewhere), 422, "cannot_answer_that", "/reply_to")
        unknown = {"text": "x", "reply_to": new_id()}
        await desk.refused(await desk.post(f"{path}/messages", eva, unknown), 422, "unknown_message", "/reply_to")
        assert len(await outbound(desk)) == 1

    at_desk(body)


def test_a_note_is_edited_and_deleted_with_trace_and_a_sent_message_is_not(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        _, admin = await desk.agent("administrator")
        path = await desk.begun(eva)
        note = (await desk.post(f"{path}/messages", eva, {"text": "uno", "private": True})).json()
        at = f"{path}/messages/{note['id']}"
        for text in ("dos", "tres", "tres"):
            edited = await desk.send("PATCH", at, eva, {"text": text})
            assert (edited.status_code, edited.json()["text"]) == (200, text)
        assert [e["text"] for e in (await desk.get(f"{at}/edits", luis)).json()["items"]] == ["uno", "dos"]
        assert (await said(desk, path, luis))[1]["edited_at"] is not None
        await desk.refused(await desk.send("PATCH", at, luis, {"text": "x"}), 403, "not_your_note")
        await desk.refused(await desk.send("DELETE", at, luis), 403, "not_your_note")
        gone = (await desk.send("DELETE", at, admin)).json()
        assert (gone["text"], gone["deleted_at"] is not None) == ("", True)
        assert (await desk.get(f"{at}/edits", eva)).json()["items"] == []
        assert (await said(desk, path, eva))[1]["text"] == ""
        await desk.refused(await desk.send("PATCH", at, eva, {"text": "x"}), 409, "message_is_deleted")
        await desk.service.settle()
        events = [h["ce-type"].split(".")[2] for _, h, _ in await desk.service.admin.stored("EVT_CONVERSATION")]
        assert events[-3:] == ["message_edited", "message_edited", "message_deleted"]

        reply = (await desk.post(f"{path}/messages", eva, {"text": "Hola"})).json()
        sent = f"{path}/messages/{reply['id']}"
        await desk.refused(await desk.send("PATCH", sent, eva, {"text": "x"}), 409, "channel_cannot_change_messages")
        await desk.refused(await desk.send("DELETE", sent, eva), 409, "channel_cannot_change_messages")
        (theirs, *_) = await said(desk, path, eva)
        await desk.refused(await desk.send("DELETE", f"{path}/messages/{theirs['id']}", eva), 409, "not_ours_to_change")
        unknown = await desk.send("DELETE", f"{path}/messages/{new_id()}", eva)
        await desk.refused(unknown, 404, "message_not_found")

    at_desk(body)


def test_a_failed_message_is_sent_again_once_as_a_new_one(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        first = (await desk.post(f"{path}/messages", eva, {"text": "Hola"})).json()
        at = f"{path}/messages/{first['id']}"
        await desk.refused(await desk.post(f"{at}/retry", eva), 409, "message_has_not_failed")
        failed = desk.world.status("34600111222", first["id"], "failed")
        await desk.service.admin.publish(
            failed.data, account=desk.world.account_id, entity=failed.envelope.entity, sequence=1
        )
        await desk.service.settle()
        again = await desk.post(f"{at}/retry", eva, idempotency_key="r")
        assert (again.status_code, again.json()["retry_of"], again.json()["status"]) == (201, first["id"], "queued")
        assert (await desk.post(f"{at}/retry", eva, idempotency_key="r")).json() == again.json()
        await desk.refused(await desk.post(f"{at}/retry", eva), 409, "message_was_retried")
        assert [m["message_id"] for m in await outbound(desk)] == [first["id"], again.json()["id"]]
        # The channel found out after all that the first had arrived: nothing of the second changes.
        late = desk.world.status("34600111222", first["id"], "delivered")
        await desk.service.admin.publish(
            late.data, account=desk.world.account_id, entity=late.envelope.entity, sequence=1
        )
        await desk.service.settle()
        assert [m["status"] for m in await said(desk, path, eva)] == ["received", "delivered", "queued"]

    at_desk(body)


def test_a_message_is_sent_at_its_time_once_or_undone(at_desk):
    async def body(desk):
        eva_id, eva = await desk.agent()
        path = await desk.begun(eva)
        soon = await desk.post(f"{path}/waiting", eva, {"text": "Luego", "delay_seconds": 1}, idempotency_key="w")
        assert soon.status_code == 201, soon.text
        assert (
            await desk.post(f"{path}/waiting", eva, {"text": "Luego", "delay_seconds": 1}, idempotency_key="w")
        ).json() == soon.json()
        never = (await desk.post(f"{path}/waiting", eva, {"text": "Nunca", "delay_seconds": 1})).json()
        tomorrow = {"text": "Mañana", "send_at": (now() + timedelta(days=1)).isoformat()}
        await desk.post(f"{path}/waiting", eva, tomorrow)
        assert (await desk.send("DELETE", f"{path}/waiting/{never['id']}", eva)).status_code == 204
        await desk.refused(await desk.send("DELETE", f"{path}/waiting/{never['id']}", eva), 404, "nothing_waits")
        assert len(await said(desk, path, eva)) == 1

        async def sent():
            return len(await said(desk, path, eva)) == 2

        assert await until(sent, 30)
        message = (await said(desk, path, eva))[1]
        assert (message["id"], message["text"]) == (soon.json()["id"], "Luego")
        assert message["author"] == f"agent:{eva_id}"
        assert [m["text"] for m in await outbound(desk)] == ["Luego"]
        assert [w["text"] for w in (await desk.get(f"{path}/waiting", eva)).json()["items"]] == ["Mañana"]
        assert (await desk.get(path, eva)).json()["waiting_since"] is None

        for bad in ({}, {"delay_seconds": 5} | tomorrow, {"send_at": (now() - timedelta(1)).isoformat()}):
            answer = await desk.post(f"{path}/waiting", eva, {"text": "x"} | bad)
            await desk.refused(answer, 422, "invalid_send_at", "/send_at")

    at_desk(body)


def test_what_cannot_be_sent_when_its_time_comes_stays_with_the_reason(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        await desk.post(f"{path}/waiting", eva, {"text": "Luego", "delay_seconds": 1})
        await desk.post(f"{path}/archive", eva)
        await desk.refused(
            await desk.post(f"{path}/waiting", eva, {"text": "x", "delay_seconds": 1}), 409, "conversation_archived"
        )

        async def refused():
            (one,) = (await desk.get(f"{path}/waiting", eva)).json()["items"]
            return one["refused"] == "conversation_archived"

        assert await until(refused, 30)
        assert await outbound(desk) == []
        (one,) = (await desk.get(f"{path}/waiting", eva)).json()["items"]
        assert (await desk.send("DELETE", f"{path}/waiting/{one['id']}", eva)).status_code == 204

    at_desk(body)


def test_a_signature_goes_below_public_messages_that_ask_for_it(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        assert (await desk.get("/signature", eva)).json() == {"text": ""}
        await desk.send("PUT", "/signature", eva, {"text": " Eva Ruiz\nAtención al cliente \n"})
        assert (await desk.get("/signature", eva)).json() == {"text": "Eva Ruiz\nAtención al cliente"}
        for more in ({}, {"signed": True}, {"signed": True, "private": True}):
            await desk.post(f"{path}/messages", eva, {"text": "Hola"} | more)
        texts = [m["text"] for m in await said(desk, path, eva)][1:]
        assert texts == ["Hola", "Hola\n\nEva Ruiz\nAtención al cliente", "Hola"]
        await desk.send("PUT", "/signature", eva, {"text": ""})
        await desk.post(f"{path}/messages", eva, {"text": "Adiós", "signed": True})
        assert (await said(desk, path, eva))[-1]["text"] == "Adiós"

    at_desk(body)


def test_people_react_to_notes_each_for_themselves(at_desk):
    async def body(desk):
        eva_id, eva = await desk.agent()
        luis_id, luis = await desk.agent()
        path = await desk.begun(eva)
        note = (await desk.post(f"{path}/messages", eva, {"text": "¡Vendido!", "private": True})).json()
        at = f"{path}/messages/{note['id']}"
        for who in (eva, luis, luis):
            answer = await desk.post(f"{at}/reactions", who, {"emoji": "🎉"})
            assert answer.status_code == 200, answer.text
        await desk.post(f"{at}/reactions", eva, {"emoji": "🎉", "add": False})
        assert (await said(desk, path, eva))[1]["reactions"] == [{"author": f"agent:{luis_id}", "emoji": "🎉"}]
        assert (await desk.get(f"{at}/edits", eva)).json()["items"] == []
        edited = await desk.send("PATCH", at, eva, {"text": "¡Vendido ya!"})
        assert len(edited.json()["reactions"]) == 1
        for wrong in ("ok", "", "<b>", "👍 👍"):
            answer = await desk.post(f"{at}/reactions", eva, {"emoji": wrong})
            await desk.refused(answer, 422, "validation_failed", "/emoji")
        (theirs, *_) = await said(desk, path, eva)
        public = await desk.post(f"{path}/messages/{theirs['id']}/reactions", eva, {"emoji": "👍"})
        await desk.refused(public, 409, "channel_takes_no_reactions")
        await desk.service.settle()
        stored = await desk.service.admin.stored("EVT_CONVERSATION")
        assert len([h for _, h, _ in stored if h["ce-type"].endswith("message_reacted.v1")]) == 3
        assert eva_id != luis_id

    at_desk(body)
