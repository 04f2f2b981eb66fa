"""The API channel as its receiver and its managers meet it."""

import hashlib
import hmac
import json

from sqlalchemy import text

from relevo.chassis.bus import until
from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission


async def got(receiver, count):
    async def there():
        return len(receiver.got) >= count

    assert await until(there, 30), receiver.got
    return receiver.got


def signatures(secret, headers, body):
    signed = headers["x-relevo-timestamp"].encode() + b"." + body
    good = f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
    return good in headers["x-relevo-signature"].split(",")


async def test_a_message_is_posted_signed_and_reported(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    manager = await world.manager()
    made = await world.run.http.post(f"/channels/{inbox.id}/secret", headers=manager)
    assert made.status_code == 201, made.text
    receiver.answers = [(200, {"external_id": "their-1"})]
    sent = await world.send(inbox, "ana@example.org", "hola ñ")
    ((headers, body),) = await got(receiver, 1)
    assert json.loads(body)["data"]["text"] == "hola ñ"
    assert headers["x-relevo-delivery"] == sent.message_id
    assert signatures(made.json()["secret"], headers, body)
    (report,) = await world.inbound_reaches(1)
    assert (report["status"], report["message_id"], report["external_id"]) == ("sent", sent.message_id, "their-1")
    subject, _, _ = (await world.admin.stored("INBOUND"))[0]
    assert subject.split(".")[2:] == [world.account, inbox.id, sent.recipient_key, "status"]


async def test_a_new_secret_signs_beside_the_old_one(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    manager = await world.manager()
    path = f"/channels/{inbox.id}/secret"
    old, new = [(await world.run.http.post(path, headers=manager)).json()["secret"] for _ in range(2)]
    await world.send(inbox, "ana", "x")
    ((headers, body),) = await got(receiver, 1)
    assert signatures(old, headers, body)
    assert signatures(new, headers, body)
    async with world.run.runtime.database.begin(world.account) as tx:
        (row,) = (await tx.execute(text("select sealed from webhook_secrets"))).all()
    assert new.encode() not in bytes(row.sealed)


async def test_the_configuration_is_shown_without_the_secret(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    chat = await world.inbox("webchat")
    manager = await world.manager()
    secret = (await world.run.http.post(f"/channels/{inbox.id}/secret", headers=manager)).json()["secret"]
    shown = await world.run.http.get(f"/channels/{inbox.id}", headers=manager)
    assert shown.status_code == 200
    assert secret not in shown.text
    assert shown.json()["webhook"]["url"] == receiver.url
    assert (await world.run.http.get(f"/channels/{chat.id}", headers=manager)).json()["webhook"] is None
    assert (await world.run.http.post(f"/channels/{chat.id}/secret", headers=manager)).status_code == 409
    stranger = await world.manager(new_id())
    assert (await world.run.http.get(f"/channels/{inbox.id}", headers=stranger)).status_code == 404
    assert (await world.run.http.post(f"/channels/{inbox.id}/secret", headers=stranger)).status_code == 404
    reader = await world.manager(None, Permission.DIRECTORY_READ)
    assert (await world.run.http.get(f"/channels/{inbox.id}", headers=reader)).status_code == 403


async def test_passing_failures_are_tried_again_in_order(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    receiver.answers = [(503, {}), (429, {})]
    talk = new_id()
    for word in ("uno", "dos", "tres"):
        await world.send(inbox, "ana", word, conversation_id=talk)
    await got(receiver, 5)
    assert [json.loads(body)["data"]["text"] for _, body in receiver.got] == ["uno", "uno", "uno", "dos", "tres"]
    reports = await world.inbound_reaches(3)
    assert {report["status"] for report in reports} == {"sent"}


async def test_a_refusal_is_reported_as_failed(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    receiver.answers = [(410, {})]
    sent = await world.send(inbox, "ana", "x")
    (report,) = await world.inbound_reaches(1)
    assert (report["status"], report["message_id"]) == ("failed", sent.message_id)
    assert "410" in report["error"]
    assert len(receiver.got) == 1


async def test_attempts_end(start, receiver):
    async with start(RELEVO_WEBHOOK_ATTEMPTS="2") as world:
        inbox = await world.inbox("api", webhook_url=receiver.url)
        receiver.answers = [(500, {})] * 5
        await world.send(inbox, "ana", "x")
        (report,) = await world.inbound_reaches(1)
        assert report["status"] == "failed"
        assert len(receiver.got) == 2


async def test_private_addresses_are_not_called(start, receiver):
    async with start(RELEVO_WEBHOOKS_ALLOW_PRIVATE="false") as world:
        for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
            inbox = await world.inbox("api", webhook_url=url)
            await world.send(inbox, "ana", "x")
        reports = await world.inbound_reaches(2)
        assert {report["status"] for report in reports} == {"failed"}
        assert all("private network" in report["error"] for report in reports)
        assert receiver.got == []


async def test_the_name_goes_with_the_checked_address(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url.replace("127.0.0.1", "localhost"))
    await world.send(inbox, "ana", "x")
    ((headers, _),) = await got(receiver, 1)
    assert headers["host"].startswith("localhost:")


async def test_a_message_that_comes_twice_is_delivered_once_and_others_inboxes_are_let_be(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url)
    foreign = await world.inbox("whatsapp")
    bare = await world.inbox("api")
    await world.send(foreign, "ana", "not ours")
    await world.send(bare, "ana", "an adapter's")
    one = await world.send(inbox, "ana", "x")
    await world.send(inbox, "ana", "x", message_id=one.message_id)
    await world.send(inbox, "ana", "y")
    await got(receiver, 2)

    async def taken():
        info = await world.admin.request("$JS.API.CONSUMER.INFO.OUTBOUND.channels", {})
        return not info["num_pending"] and not info["num_ack_pending"]

    assert await until(taken, 30)
    await world.inbound_reaches(2)
    assert sorted(json.loads(body)["data"]["text"] for _, body in receiver.got) == ["x", "y"]


async def test_a_dead_receiver_holds_up_nobody_else(start, receiver):
    async with start(RELEVO_WEBHOOK_TIMEOUT="0.5", RELEVO_WEBHOOK_BACKOFF="30") as world:
        dead = await world.inbox("api", webhook_url="http://127.0.0.1:9/hook")
        alive = await world.inbox("api", webhook_url=receiver.url)
        for _ in range(40):
            await world.send(dead, "ana", "x")
        await world.send(alive, "ana", "y")
        await got(receiver, 1)


async def test_a_change_is_posted_after_its_message_and_a_refusal_is_reported(world, receiver):
    inbox = await world.inbox("api", webhook_url=receiver.url, changes=("edit",))
    sent = await world.send(inbox, "ana", "uno")
    await got(receiver, 1)
    receiver.answers = [(503, {}), (200, {}), (422, {})]
    taken = await world.update(sent, new_text="dos")
    refused = await world.update(sent, new_text="tres")
    posted = await got(receiver, 4)
    told = [json.loads(body) for _, body in posted]
    assert [one["type"] for one in told] == ["message", "update", "update", "update"]
    assert [one["data"].get("new_text") for one in told] == [None, "dos", "dos", "tres"]
    assert [h["x-relevo-delivery"] for h, _ in posted[2:]] == [taken.change_id, refused.change_id]
    first, report = await world.inbound_reaches(2)
    assert (first["status"], first.get("change_id")) == ("sent", None)
    assert (report["status"], report["message_id"], report["change_id"], report["external_id"]) == (
        "failed",
        sent.message_id,
        refused.change_id,
        refused.change_id,
    )
    assert report["error"] == "the webhook answered 422"
