"""Messages that the customer has already: edited and deleted where their channel can, refused where it cannot."""

import json

from relevo.contracts.base import new_id, now
from relevo.contracts.ingest import StatusReceived
from relevo.contracts.permissions import Permission
from relevo.kernel.identity import sender_key


async def left(desk, kind):
    """What left for the channel, of a kind."""
    await desk.service.settle()
    stored = await desk.service.admin.stored("OUTBOUND")
    return [json.loads(body) for subject, _, body in stored if subject.endswith(f".{kind}")]


async def replied(desk, who, path, text="Son 10 €"):
    """The path of a reply."""
    reply = (await desk.post(f"{path}/messages", who, {"text": text})).json()
    return f"{path}/messages/{reply['id']}", reply["id"]


async def status(desk, message_id, **more):
    """What the channel reports of a message."""
    fields = {"external_id": "wamid.1", "status": "delivered"} | more
    told = StatusReceived(
        inbox=desk.world.inbox,
        sender_key=sender_key("34600111222"),
        message_id=message_id,
        occurred_at=now(),
        **fields,
    )
    await desk.service.admin.publish(
        told, account=desk.world.account_id, entity=f"{desk.world.inbox.id}_{told.sender_key}", sequence=1
    )
    await desk.service.settle()


def test_where_the_channel_can_the_customer_sees_the_change_too(at_desk):
    async def body(desk):
        await desk.know("inbox", desk.world.inbox.model_copy(update={"changes": ("delete", "edit")}))
        _, eva = await desk.agent()
        _, luis = await desk.agent()
        path = await desk.begun(eva)
        at, message_id = await replied(desk, eva, path)
        await status(desk, message_id)
        edited = await desk.send("PATCH", at, eva, {"text": "Son 12 €"})
        assert (edited.status_code, edited.json()["text"]) == (200, "Son 12 €")
        assert (await desk.send("PATCH", at, eva, {"text": "Son 12 €"})).status_code == 200
        (update,) = await left(desk, "update")
        told = {name: update[name] for name in ("update", "of_message_id", "new_text", "external_id", "recipient_id")}
        assert told == {
            "update": "edit",
            "of_message_id": message_id,
            "new_text": "Son 12 €",
            "external_id": "wamid.1",
            "recipient_id": "34600111222",
        }
        assert [e["text"] for e in (await desk.get(f"{at}/edits", luis)).json()["items"]] == ["Son 10 €"]
        await desk.refused(await desk.send("PATCH", at, luis, {"text": "x"}), 403, "not_your_note")
        await desk.refused(await desk.send("DELETE", at, luis), 403, "not_your_note")
        only_notes = frozenset({Permission.CONVERSATIONS_READ, Permission.CONVERSATIONS_NOTE})
        _, noter = await desk.agent(permissions=only_notes, scope="all")
        await desk.refused(await desk.send("DELETE", at, noter), 403, "permission_missing")

        # The channel refuses after all: the conversation says so, and nothing else changes.
        refusal = {"status": "failed", "error": "too old", "change_id": update["change_id"]}
        await status(desk, message_id, external_id=update["change_id"], **refusal)
        assert (await desk.lines(path, eva))[-1].endswith("el cliente lo sigue viendo como estaba (too old).")
        shown = (await desk.get(f"{path}/messages", eva)).json()["items"][1]
        assert (shown["status"], shown["text"]) == ("delivered", "Son 12 €")
        await status(desk, message_id, external_id="c2", status="sent", change_id="c2")
        assert len(await desk.lines(path, eva)) == 1

        assert (await desk.send("DELETE", at, eva)).json()["deleted_at"] is not None
        gone = (await left(desk, "update"))[-1]
        assert (gone["update"], gone["new_text"], gone["of_message_id"]) == ("delete", "", message_id)
        await desk.refused(await desk.send("PATCH", at, eva, {"text": "x"}), 409, "message_is_deleted")
        # A note is nobody's but the team's, whatever the channel can.
        note = (await desk.post(f"{path}/messages", eva, {"text": "uno", "private": True})).json()
        assert (await desk.send("PATCH", f"{path}/messages/{note['id']}", eva, {"text": "dos"})).status_code == 200
        assert (await desk.send("DELETE", f"{path}/messages/{note['id']}", eva)).status_code == 200
        assert len(await left(desk, "update")) == 2
        assert len(await left(desk, "message")) == 1

    at_desk(body)


def test_where_it_can_only_delete_or_nothing_the_rest_is_refused(at_desk):
    async def body(desk):
        await desk.know("inbox", desk.world.inbox.model_copy(update={"changes": ("delete",)}))
        _, eva = await desk.agent()
        path = await desk.begun(eva)
        at, message_id = await replied(desk, eva, path)
        await desk.refused(await desk.send("PATCH", at, eva, {"text": "x"}), 409, "channel_cannot_change_messages")
        await status(desk, message_id, status="failed", error="no such number")
        await desk.refused(await desk.send("DELETE", at, eva), 409, "message_never_left")
        incoming = (await desk.get(f"{path}/messages", eva)).json()["items"][0]["id"]
        await desk.refused(await desk.send("DELETE", f"{path}/messages/{incoming}", eva), 409, "not_ours_to_change")
        missing = await desk.send("DELETE", f"{path}/messages/{new_id()}", eva)
        await desk.refused(missing, 404, "message_not_found")
        assert await left(desk, "update") == []

    at_desk(body)
