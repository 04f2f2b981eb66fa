"""Conversations that the team begins, and those that go: spam and deleted ones."""

import json

from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission
from relevo.kernel.identity import sender_key


async def story(desk, conversation_id):
    await desk.service.settle()
    stored = await desk.service.admin.stored("EVT_CONVERSATION")
    return [
        (h["ce-type"].split(".")[2], json.loads(body)) for _, h, body in stored if h["ce-subject"] == conversation_id
    ]


async def known_inbox(desk, channel="whatsapp", **more):
    inbox = desk.world.make_inbox(channel, **more)
    await desk.know("inbox", inbox)
    return inbox


async def contact(desk, who, **fields):
    made = await desk.post("/contacts", who, {"name": "Ana López"} | fields)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def test_the_team_writes_first_to_who_can_be_reached(at_desk):
    async def body(desk):
        eva_id, eva = await desk.agent()
        whatsapp, email, telegram = [await known_inbox(desk, c) for c in ("whatsapp", "email", "telegram")]
        ana = await contact(desk, eva, phone="+34600111222")

        async def start(inbox, **more):
            wanted = {"contact_id": ana, "inbox_id": inbox.id, "text": "Su pedido ha llegado"}
            return await desk.post("/conversations", eva, wanted | more, idempotency_key=more.pop("key", new_id()))

        begun = await start(whatsapp, subject=" Pedido  7 ")
        assert begun.status_code == 201, begun.text
        state = begun.json()
        assert (state["status"], state["stage"], state["subject"]) == ("open", "in_progress", "Pedido 7")
        assert state["source_id"] == "34600111222"
        assert [name for name, _ in await story(desk, state["id"])] == ["conversation_opened", "message_created"]
        ((_, headers, out),) = await desk.service.admin.stored("OUTBOUND")
        assert json.loads(out)["recipient_key"] == sender_key("34600111222")
        assert headers["relevo-actor"] == f"agent:{eva_id}"
        again = await start(whatsapp)
        await desk.refused(again, 409, "conversation_goes_on")
        assert again.json()["conversation_id"] == state["id"]
        # The customer answers into the very same conversation.
        await desk.customer_writes("34600111222", "¡Gracias!", inbox=whatsapp)
        assert (await desk.get(f"/conversations/{state['id']}", eva)).json()["message_count"] == 2
        # One conversation a person: it is reopened, not doubled.
        await desk.post(f"/conversations/{state['id']}/resolve", eva)
        reopened = (await start(whatsapp)).json()
        assert (reopened["id"], reopened["cycle"], reopened["status"]) == (state["id"], 2, "open")

        await desk.refused(await start(email), 422, "contact_cannot_be_reached", "/inbox_id")
        await desk.refused(await start(telegram), 422, "contact_cannot_be_reached", "/inbox_id")
        await desk.refused(await start(desk.world.make_inbox()), 422, "unknown_inbox", "/inbox_id")
        await desk.refused(await start(email, contact_id=new_id()), 422, "unknown_contact", "/contact_id")
        off = await known_inbox(desk, enabled=False)
        await desk.refused(await start(off), 422, "inbox_is_off", "/inbox_id")
        await desk.post(f"/contacts/{ana}/block", eva)
        await desk.refused(await start(whatsapp), 422, "contact_is_blocked", "/contact_id")
        _, elsewhere = await desk.agent(inboxes=(new_id(),))
        body = {"contact_id": ana, "inbox_id": whatsapp.id, "text": "x"}
        await desk.refused(await desk.post("/conversations", elsewhere, body), 422, "unknown_inbox", "/inbox_id")
        _, reader = await desk.agent(permissions=frozenset({Permission.CONVERSATIONS_READ}))
        await desk.refused(await desk.post("/conversations", reader, body), 403, "permission_missing")

    at_desk(body)


def test_an_inbox_that_opens_a_new_one_each_time_does_so_for_the_team_too(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        inbox = await known_inbox(desk, "email", reopen="new_after_resolved")
        ana = await contact(desk, eva, email="ana@example.com")
        wanted = {"contact_id": ana, "inbox_id": inbox.id, "text": "Hola"}
        first = await desk.post("/conversations", eva, wanted, idempotency_key="k")
        assert (await desk.post("/conversations", eva, wanted, idempotency_key="k")).json() == first.json()
        await desk.post(f"/conversations/{first.json()['id']}/resolve", eva)
        second = await desk.post("/conversations", eva, wanted)
        assert second.json()["id"] != first.json()["id"]

    at_desk(body)


def test_spam_blocks_its_contact_and_is_put_away(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva, "Gane dinero")
        conversation_id = path.rpartition("/")[2]
        spam = await desk.post(f"{path}/spam", eva, idempotency_key="s")
        assert (spam.status_code, spam.json()["stage"]) == (200, "archived"), spam.text
        assert (await desk.post(f"{path}/spam", eva, idempotency_key="s")).json() == spam.json()
        await desk.refused(await desk.post(f"{path}/spam", eva), 409, "conversation_already_archived")
        names = [name for name, _ in await story(desk, conversation_id)]
        assert names[-3:] == ["conversation_marked_spam", "conversation_resolved", "conversation_archived"]
        await desk.customer_writes(text="Otra vez")
        assert (await desk.get(path, eva)).json()["message_count"] == 1
        assert (await desk.lines(path, eva))[0] == "Eva Ruiz marcó la conversación como correo no deseado."

    at_desk(body)


def test_a_deleted_conversation_is_gone_with_all_that_was_said_and_who_and_why_is_kept(at_desk, world):
    async def body(desk):
        _, admin = await desk.agent("administrator")
        _, eva = await desk.agent()
        path = await desk.begun(admin, "marcador-secreto")
        conversation_id = path.rpartition("/")[2]
        await desk.post(f"{path}/messages", admin, {"text": "marcador-nota", "private": True})
        await desk.send("PUT", f"{path}/draft", admin, {"text": "marcador-borrador"})
        await desk.post(f"{path}/waiting", admin, {"text": "marcador-luego", "delay_seconds": 60})
        await desk.post(f"{path}/seen", admin, {})
        await desk.refused(await desk.post(f"{path}/delete", eva, {"reason": "Prueba"}), 403, "permission_missing")
        missing = await desk.post(f"{path}/delete", admin, {"reason": " "})
        await desk.refused(missing, 422, "validation_failed", "/reason")
        gone = await desk.post(f"{path}/delete", admin, {"reason": "Petición del cliente"}, idempotency_key="d")
        assert gone.status_code == 204, gone.text
        again = await desk.post(f"{path}/delete", admin, {"reason": "Petición del cliente"}, idempotency_key="d")
        assert (again.status_code, again.content) == (204, b"")
        await desk.refused(await desk.get(path, admin), 404, "conversation_not_found")
        *_, (before, _), (name, last) = await story(desk, conversation_id)
        assert (before, name, last["reason"]) == (
            "conversation_resolved",
            "conversation_deleted",
            "Petición del cliente",
        )
        async with desk.service.runtime.database.begin() as tx:
            for table in ("messages", "message_edits", "drafts", "waiting_messages", "seen", "conversations"):
                found = await (await tx.conn.execute(f"select count(*) from {table}")).fetchone()
                assert found[0] == 0, table
        (kept,) = (await desk.get("/conversations/deleted", admin)).json()["items"]
        assert (kept["id"], kept["actor_name"], kept["reason"]) == (
            conversation_id,
            "Eva Ruiz",
            "Petición del cliente",
        )
        await desk.refused(await desk.get("/conversations/deleted", eva), 403, "permission_missing")
        assert (await desk.get("/conversations/counts", admin)).json()["open"]["count"] == 0
        # Whoever writes again begins anew.
        fresh = await desk.begun(admin, "Hola de nuevo")
        assert fresh != path

    at_desk(body)


def test_what_brought_a_message_or_change_about_is_told(at_desk):
    async def body(desk):
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        await desk.post(f"{path}/resolve", eva)
        await desk.customer_writes(text="Otra cosa")
        items = (await desk.get(f"{path}/messages", eva)).json()["items"]
        causes = [(m["kind"], (m["cause"] or "").partition("/")[0]) for m in items]
        received = "relevo.ingest.message_received.v1"
        assert causes == [("incoming", received), ("activity", ""), ("activity", received), ("incoming", received)]

    at_desk(body)
