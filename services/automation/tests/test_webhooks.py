"""Webhooks as their receivers and their managers meet them."""

import base64
import hashlib
import hmac
import json

import pytest

from relevo.automation.app import build
from relevo.automation.domain.webhooks import TYPES
from relevo.chassis.bus import until
from relevo.chassis.erasing import Person, clean
from relevo.chassis.testing import running
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import ConversationResolved, PriorityChanged
from relevo.contracts.identity import RoleChanged, RoleState
from relevo.contracts.permissions import Permission

from .samples import ACCOUNT, conversation, said
from .test_service import _key, _tell

SAID = "relevo.conversation.message_created.v1"
RESOLVED = "relevo.conversation.conversation_resolved.v1"


def signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    good = base64.b64encode(hmac.digest(key, told, hashlib.sha256)).decode()
    return f"v1,{good}" in headers["webhook-signature"].split(" ")


async def _make(service, who, url, **more) -> dict:
    answer = await service.http.post("/webhooks", json={"url": url, **more}, headers=who)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _deliveries(service, who, hook, **query) -> list[dict]:
    answer = await service.http.get(f"/webhooks/{hook['id']}/deliveries", params=query, headers=who)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def _reaches(service, who, hook, states) -> list[dict]:
    async def there() -> bool:
        return sorted(one["state"] for one in await _deliveries(service, who, hook)) == sorted(states)

    assert await until(there, 30), await _deliveries(service, who, hook)
    return await _deliveries(service, who, hook)


async def test_events_are_posted_signed_and_in_order_and_what_is_internal_is_not(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        hook = await _make(service, who, receiver.url, types=[SAID, RESOLVED], description="CRM")
        secret = (await service.http.post(f"/webhooks/{hook['id']}/secret", headers=who)).json()["secret"]
        talk = conversation()
        sent = await _tell(service, said("uno", id=talk.id))
        await _tell(service, said("nota secreta", id=talk.id, kind="note"))
        await _tell(service, said("línea", id=talk.id, kind="activity"))
        await _tell(service, PriorityChanged(conversation=talk))
        await _tell(service, said("dos", id=talk.id))
        await _tell(service, ConversationResolved(conversation=talk))
        bodies = await receiver.has(3)
        assert [(body["type"], body["data"].get("message", {}).get("text")) for body in bodies] == [
            (SAID, "uno"),
            (SAID, "dos"),
            (RESOLVED, None),
        ]
        assert (bodies[0]["id"], bodies[0]["actor"], bodies[0]["entity_id"]) == (sent.id, "contact:c", talk.id)
        assert all(signed(secret, headers, body) for headers, body in receiver.got)
        rows = await _reaches(service, who, hook, ["delivered"] * 3)
        assert [row["id"] for row in reversed(rows)] == [headers["webhook-id"] for headers, _ in receiver.got]
        shown = (await service.http.get("/webhooks", headers=who)).json()["items"]
        assert (shown[0]["last_error"], shown[0]["failures"], shown[0]["description"]) == (None, 0, "CRM")
        assert "secret" not in json.dumps(shown)


async def test_one_that_wants_no_more_is_paused_told_of_and_gets_all_once_it_is_resumed(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        roles = [
            RoleState(id=new_id(), account_id=ACCOUNT, name=name, permissions=frozenset(permissions), scope="all")
            for name, permissions in (("admin", {Permission.WEBHOOKS_MANAGE}), ("agent", set()))
        ]
        for role in roles:
            await service.admin.publish(RoleChanged(role=role), account=ACCOUNT, entity=role.id, sequence=1)
        hook = await _make(service, who, f"{receiver.url}?token=t0p", ordered_by="endpoint")
        receiver.status = 410
        for text in ("uno", "dos"):
            await _tell(service, said(text))

        async def paused() -> bool:
            found = (await service.http.get(f"/webhooks/{hook['id']}", headers=who)).json()
            return found["paused_at"] is not None

        assert await until(paused, 30)
        await service.settle()
        ((_, _, raw),) = await service.admin.stored("CMD_NOTIFICATION")
        told = json.loads(raw)
        assert (told["role_id"], told["kind"], told["template"]) == (roles[0].id, "endpoint_paused", "endpoint_paused")
        assert told["data"] == {"host": "127.0.0.1", "error": "answered 410"}

        receiver.status = 200
        receiver.got.clear()
        answer = await service.http.post(f"/webhooks/{hook['id']}/resume", headers=who)
        assert answer.json()["paused_at"] is None
        assert [body["data"]["message"]["text"] for body in await receiver.has(2)] == ["uno", "dos"]
        first, _ = reversed(await _reaches(service, who, hook, ["delivered"] * 2))
        path = f"/webhooks/{hook['id']}/deliveries/{first['id']}"
        assert (await service.http.post(f"{path}/skip", headers=who)).status_code == 409
        assert (await service.http.post(f"{path}/replay", headers=who)).json()["state"] == "waiting"
        again = (await receiver.has(3))[2]
        assert again["data"]["message"]["text"] == "uno"
        assert receiver.got[2][0]["webhook-id"] == first["id"]


async def test_a_delivery_that_is_not_wanted_is_skipped(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        hook = await _make(service, who, receiver.url)
        receiver.status = 422
        await _tell(service, said("uno"))
        await receiver.has(1)

        async def noted() -> bool:
            (row,) = await _deliveries(service, who, hook)
            return row["last_status"] == 422

        assert await until(noted, 30)
        (row,) = await _deliveries(service, who, hook, state="waiting")
        answer = await service.http.post(f"/webhooks/{hook['id']}/deliveries/{row['id']}/skip", headers=who)
        assert (answer.status_code, answer.json()["state"], answer.json()["last_error"]) == (
            200,
            "failed",
            "answered 422",
        )


async def test_an_endpoint_is_tried_edited_and_deleted(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        hook = await _make(service, who, receiver.url)
        path = f"/webhooks/{hook['id']}"
        assert (await service.http.post(f"{path}/test", headers=who)).json() == {
            "delivered": True,
            "status": 200,
            "error": None,
        }
        (body,) = await receiver.has(1)
        assert (body["type"], body["data"]) == ("relevo.webhook.test.v1", {})
        stale = await service.http.patch(path, json={"enabled": False}, headers=who | {"If-Match": '"9"'})
        assert stale.status_code == 412
        edited = await service.http.patch(path, json={"enabled": False}, headers=who | {"If-Match": '"1"'})
        assert (edited.status_code, edited.json()["enabled"]) == (200, False)
        await _tell(service, said("uno"))
        assert await _deliveries(service, who, hook) == []
        gone = await service.http.delete(path, headers=who | {"If-Match": '"2"'})
        assert gone.status_code == 204
        assert (await service.http.get(path, headers=who)).status_code == 404


async def test_what_cannot_be_an_endpoint_is_refused_with_its_field(servers, monkeypatch) -> None:
    monkeypatch.setenv("RELEVO_WEBHOOKS_ALLOW_PRIVATE", "false")
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        for url in (
            "https://127.0.0.1/",
            "http://example.org/",
            "https://[::ffff:10.0.0.1]/",
            "https://u:p@example.org/",
        ):
            answer = await service.http.post("/webhooks", json={"url": url}, headers=who)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/url")
        answer = await service.http.post("/webhooks", json={"url": "https://example.org/", "types": ["x"]}, headers=who)
        assert answer.json()["errors"][0]["pointer"] == "/types/0"
        # A name says nothing by itself: it is refused when it is looked up.
        hook = await _make(service, who, "https://localhost:1/")
        tried = (await service.http.post(f"/webhooks/{hook['id']}/test", headers=who)).json()
        assert not tried["delivered"]
        assert "private network" in tried["error"]
        other = await _key(service, Permission.AUTOMATIONS_MANAGE)
        assert (await service.http.get("/webhooks", headers=other)).status_code == 403
        stranger = await _key(service, Permission.WEBHOOKS_MANAGE, account=new_id())
        assert (await service.http.get(f"/webhooks/{hook['id']}", headers=stranger)).status_code == 404


async def test_what_waits_of_a_person_who_is_erased_is_not_sent(servers, receiver) -> None:
    async with running(build, servers) as service:
        who = await _key(service, Permission.WEBHOOKS_MANAGE)
        hook = await _make(service, who, receiver.url)
        receiver.status = 500
        gone, stays = said("mi secreto"), said("otra cosa")
        await _tell(service, gone)
        await _tell(service, stays)
        personal = service.runtime.service.personal
        person = Person(new_id(), ACCOUNT, new_id(), (), (gone.conversation.id,), (), now())
        async with service.runtime.database.begin(ACCOUNT) as tx:
            await clean(tx, personal, person)
        receiver.status = 200
        await service.http.post(f"/webhooks/{hook['id']}/resume", headers=who)
        rows = await _reaches(service, who, hook, ["failed", "delivered"])
        failed = next(row for row in rows if row["state"] == "failed")
        assert failed["entity_id"] == gone.conversation.id
        again = await service.http.post(f"/webhooks/{hook['id']}/deliveries/{failed['id']}/replay", headers=who)
        assert again.status_code == 409


def test_every_type_is_one_of_the_catalogue() -> None:
    assert len(set(TYPES)) == len(TYPES) > 20


@pytest.mark.parametrize("kind", ["note", "activity"])
def test_internal_lines_have_no_way_out(kind) -> None:
    from relevo.automation.domain.webhooks import leaves

    assert not leaves(said("x", kind=kind))
    assert leaves(said("x"))
