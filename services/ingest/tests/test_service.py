"""Ingest whole: both doors, inboxes, quarantine and dead letters, on a real broker and database."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from relevo.chassis.bus import until
from relevo.contracts import ingest
from relevo.contracts.base import new_id, now
from relevo.contracts.dead import DeadLettered
from relevo.contracts.permissions import Permission

P = Permission
World = Any
Message = Callable[..., dict[str, Any]]


def test_inboxes_from_first_to_last(world: World) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE)
            reader = await w.key(P.DIRECTORY_READ)
            stranger = await w.key(P.INBOXES_MANAGE, P.DIRECTORY_READ, account=new_id())
            made = await w.inbox(manager, webhook_url="https://example.com/hook?token=secret")
            path = f"/inboxes/{made['id']}"
            assert (await w.ask("GET", path, stranger)).status_code == 404
            assert (await w.ask("DELETE", path, stranger)).status_code == 404
            assert (await w.ask("POST", "/inboxes", reader, json={})).status_code == 403
            seen = await w.ask("GET", path, reader)
            assert seen.headers["etag"] == '"1"'
            assert seen.json()["webhook_url"] is None
            assert (await w.ask("PATCH", path, manager, json={"name": "x"})).status_code == 428
            changed = await w.ask(
                "PATCH", path, manager, json={"name": " Ventas\x00 ", "enabled": False}, headers={"If-Match": '"1"'}
            )
            assert (changed.status_code, changed.json()["name"], changed.headers["etag"]) == (200, "Ventas", '"2"')
            late = await w.ask("PATCH", path, manager, json={"name": "Otra"}, headers={"If-Match": '"1"'})
            assert (late.status_code, late.json()["current"]["version"]) == (412, 2)
            same = await w.ask("PATCH", path, manager, json={"name": "Ventas"}, headers={"If-Match": '"2"'})
            assert same.headers["etag"] == '"2"'
            null = await w.ask("PATCH", path, manager, json={"name": None}, headers={"If-Match": "*"})
            assert null.json()["errors"][0]["pointer"] == "/name"
            team = await w.ask("PATCH", path, manager, json={"team_id": new_id()}, headers={"If-Match": "*"})
            assert team.json()["code"] == "team_unknown"
            assert (await w.ask("DELETE", path, manager)).status_code == 204
            assert (await w.ask("GET", path, manager)).status_code == 404
            assert (await w.ask("GET", "/inboxes", reader)).json()["items"] == []
            events = await w.events(ingest.InboxChanged)
            assert [(headers["relevo-sequence"], data.inbox.name, data.deleted) for headers, data in events] == [
                ("1", "WhatsApp", False),
                ("2", "Ventas", False),
                ("3", "Ventas", True),
            ]

    asyncio.run(scenario())


def test_after_how_many_days_what_was_resolved_is_put_away_is_a_setting_of_the_inbox(world: World) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE)
            made = await w.inbox(manager)
            assert made["archive_after_days"] is None
            path, latest = f"/inboxes/{made['id']}", {"If-Match": "*"}
            for days in (30, None):
                changed = await w.ask("PATCH", path, manager, json={"archive_after_days": days}, headers=latest)
                assert changed.json()["archive_after_days"] == days
                assert (await w.ask("GET", path, manager)).json() == changed.json()
            bad = await w.ask("PATCH", path, manager, json={"archive_after_days": 0}, headers=latest)
            assert bad.json()["errors"][0]["pointer"] == "/archive_after_days"
            told = [data.inbox.archive_after_days for _, data in await w.events(ingest.InboxChanged)]
            assert told == [None, 30, None]

    asyncio.run(scenario())


def test_whether_and_how_customers_are_asked_how_they_were_served_is_a_setting_of_the_inbox(world: World) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE)
            made = await w.inbox(manager)
            assert made["survey"] is None
            path, latest = f"/inboxes/{made['id']}", {"If-Match": "*"}
            asking = {"way": "reply", "delay_seconds": 60}
            changed = await w.ask("PATCH", path, manager, json={"survey": asking}, headers=latest)
            assert changed.json()["survey"] == asking | {"again_after_days": 30, "answer_days": 14, "change_days": 3}
            assert (await w.ask("GET", path, manager)).json()["survey"] == changed.json()["survey"]
            same = await w.ask("PATCH", path, manager, json={"survey": asking}, headers=latest)
            assert same.json()["version"] == changed.json()["version"]
            bad = await w.ask("PATCH", path, manager, json={"survey": {"delay_seconds": -1}}, headers=latest)
            assert bad.json()["errors"][0]["pointer"] == "/survey/delay_seconds"
            off = await w.ask("PATCH", path, manager, json={"survey": None}, headers=latest)
            assert off.json()["survey"] is None
            told = [data.inbox.survey and data.inbox.survey.way for _, data in await w.events(ingest.InboxChanged)]
            assert told == [None, "reply", None]

    asyncio.run(scenario())


def test_bad_inboxes_are_told_apart_field_by_field(world: World) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE)
            bad = {"name": "\x00 ", "channel": "Whats App", "phone_region": "es", "webhook_url": "ftp://x", "more": 1}
            answer = await w.ask("POST", "/inboxes", manager, json=bad)
            assert answer.status_code == 422
            assert {error["pointer"] for error in answer.json()["errors"]} == {f"/{field}" for field in bad}
            key = {"Idempotency-Key": "once"}
            body = {"name": "Uno", "channel": "api"}
            first = await w.ask("POST", "/inboxes", manager, json=body, headers=key)
            again = await w.ask("POST", "/inboxes", manager, json=body, headers=key)
            assert again.json() == first.json()
            pages = [(await w.inbox(manager, name=f"n{number}"))["id"] for number in range(3)]
            found, cursor = [], ""
            while True:
                page = (await w.ask("GET", f"/inboxes?limit=2{cursor}", manager)).json()
                found += [item["id"] for item in page["items"]]
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
            assert found == [first.json()["id"], *pages]

    asyncio.run(scenario())


def test_http_door(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with world(RELEVO_HTTP_MAX_BODY_BYTES="200000") as w:
            manager = await w.key(P.INBOXES_MANAGE)
            inbox = (await w.inbox(manager))["id"]
            adapter = await w.key(inbox_id=inbox)
            path = f"/inbound/{inbox}"
            assert (await w.ask("POST", path, manager, json={"events": []})).status_code == 403
            assert (await w.ask("POST", f"/inbound/{new_id()}", adapter, json={"events": []})).status_code == 403
            status = {"kind": "status", "external_id": "9", "sender": {"id": "573001234567"}, "message_id": "m",
                      "status": "read", "occurred_at": "2026-03-01T12:00:00Z"}  # fmt: skip
            batch = [message("1", "uno"), message("1", "uno"), message("2", "dos\x00\u202e"), {"external_id": "x"},
                     message("1", "otra cosa"), status, status]  # fmt: skip
            answer = await w.ask("POST", path, adapter, json={"events": batch})
            assert answer.status_code == 202
            results = answer.json()["results"]
            assert [(r["external_id"], r["status"]) for r in results] == [
                ("1", "accepted"),
                ("1", "duplicate"),
                ("2", "accepted"),
                ("x", "rejected"),
                ("1", "duplicate"),
                ("9", "accepted"),
                ("9", "duplicate"),
            ]
            assert results[3]["error"] == {
                "code": "kind_missing",
                "detail": "The field kind is missing: it must be message or status.",
                "pointer": "/events/3/kind",
            }
            assert results[4]["error"]["code"] == "different_body"
            again = await w.ask("POST", path, adapter, json={"events": batch})
            assert {r["status"] for r in again.json()["results"]} == {"duplicate", "rejected"}
            assert await w.texts() == ["uno", "dos"]
            received = await w.events(ingest.MessageReceived) + await w.events(ingest.StatusReceived)
            assert [headers["relevo-sequence"] for headers, _ in received] == ["1", "2", "3"]
            assert len({headers["ce-subject"] for headers, _ in received}) == 1
            assert received[0][0]["relevo-actor"].startswith("key:")
            spanish = await w.ask("POST", path, adapter, json={"events": [{}]}, headers={"Accept-Language": "es"})
            assert "Falta" in spanish.json()["results"][0]["error"]["detail"]
            for content, code in [(b"{", 400), (b"[]", 400), (b"[" * 100_000, 400), (b"x" * 300_000, 413)]:
                assert (await w.ask("POST", path, adapter, content=content)).status_code == code
            many = await w.ask("POST", path, adapter, json={"events": [1] * 1001})
            assert (many.status_code, many.json()["code"]) == (422, "too_many_events")
            await w.ask("PATCH", f"/inboxes/{inbox}", manager, json={"enabled": False}, headers={"If-Match": "*"})
            off = await w.ask("POST", path, adapter, json={"events": [message("3")]})
            assert (off.status_code, off.json()["code"]) == (409, "inbox_disabled")

    asyncio.run(scenario())


def test_bus_door_accepts_in_order_and_never_twice(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE)
            inbox = (await w.inbox(manager))["id"]
            adapter = await w.key(inbox_id=inbox)
            for number in range(60):
                await w.publish(inbox, message(f"b{number}", f"{number}", sender=f"s{number % 3}"))
            await w.publish(inbox, message("b7", "7", sender="s1"))
            await w.run.settle()
            door = await w.ask("POST", f"/inbound/{inbox}", adapter, json={"events": [message("b8", "8", sender="s2")]})
            assert door.json()["results"][0]["status"] == "duplicate"
            received = await w.events(ingest.MessageReceived)
            assert len(received) == 60
            for rest in range(3):
                mine = [
                    (int(h["relevo-sequence"]), int(d.content.text)) for h, d in received if d.sender.id == f"s{rest}"
                ]
                assert mine == [(n + 1, 3 * n + rest) for n in range(20)]

    asyncio.run(scenario())


def test_what_the_bus_brings_wrong_is_quarantined_and_can_be_mended(world: World, message: Message) -> None:
    async def scenario() -> None:
        async with world() as w:
            manager = await w.key(P.INBOXES_MANAGE, P.QUARANTINE_MANAGE)
            stranger = await w.key(P.QUARANTINE_MANAGE, account=new_id())
            inbox = (await w.inbox(manager))["id"]
            off = (await w.inbox(manager, enabled=False))["id"]
            await w.publish(inbox, b'{"kind":', sender="k", kind="message")
            await w.publish(inbox, b"\xff\x00", sender="k", kind="message")
            await w.publish(inbox, message("1", occurred_at="ayer"))
            await w.publish(inbox, message("1", occurred_at="ayer"))
            await w.publish(inbox, message("2"), sender="wrong")
            await w.publish(inbox, message("3"), kind="status")
            await w.publish(off, message("4"))
            await w.publish(new_id(), message("5"))
            await w.publish("no-uuid", message("5"))
            await w.publish(inbox, message("6"), account="no-account")
            await w.publish(inbox, message("7", "vale"))
            assert await w.texts() == ["vale"]
            listed = (await w.ask("GET", "/quarantine", manager)).json()["items"]
            by_reason = {item["reason"]: item for item in listed}
            assert sorted(item["reason"] for item in listed) == [
                "inbox_disabled", "inbox_unknown", "inbox_unknown", "kind_mismatch", "not_a_time", "not_json",
                "not_utf8", "sender_key_mismatch",
            ]  # fmt: skip
            assert by_reason["not_a_time"]["occurrences"] == 2
            assert by_reason["not_a_time"]["faults"][0]["pointer"] == "/occurred_at"
            assert (await w.ask("GET", "/quarantine", stranger)).json()["items"] == []
            counts = (await w.ask("GET", "/quarantine/counts", manager)).json()
            assert counts["open"] == 8
            only = await w.ask("GET", f"/quarantine?reason=not_json&inbox_id={inbox}", manager)
            assert len(only.json()["items"]) == 1
            told = await w.events(ingest.EventQuarantined)
            assert {data.quarantine_id for _, data in told} == {item["id"] for item in listed}

            whole = (await w.ask("GET", f"/quarantine/{by_reason['not_utf8']['id']}", manager)).json()
            assert (whole["body"], whole["body_encoding"]) == ("/wA=", "base64")
            broken = f"/quarantine/{by_reason['not_a_time']['id']}"
            assert (await w.ask("GET", broken, stranger)).status_code == 404
            assert (await w.ask("POST", f"{broken}/retry", stranger)).status_code == 404
            refused = await w.ask("POST", f"{broken}/retry", manager)
            assert (refused.status_code, refused.json()["code"]) == (422, "not_a_time")
            raw = json.loads((await w.ask("GET", broken, manager)).json()["body"])
            mended = await w.ask(
                "POST", f"{broken}/retry", manager, json={"body": raw | {"occurred_at": "2026-03-01T10:00:00Z"}}
            )
            assert mended.json() == {"status": "accepted", "external_id": "1"}
            twice = await w.ask("POST", f"{broken}/retry", manager)
            assert (twice.status_code, twice.json()["state"]) == (409, "retried")
            await w.ask("PATCH", f"/inboxes/{off}", manager, json={"enabled": True}, headers={"If-Match": "*"})
            late = await w.ask("POST", f"/quarantine/{by_reason['inbox_disabled']['id']}/retry", manager)
            assert late.json()["status"] == "accepted"
            junk = f"/quarantine/{by_reason['not_json']['id']}"
            assert (await w.ask("DELETE", junk, manager)).status_code == 204
            assert (await w.ask("DELETE", junk, manager)).status_code == 409
            gone = (await w.ask("GET", junk, manager)).json()
            assert (gone["state"], gone["resolved_by"].startswith("key:")) == ("discarded", True)
            assert await w.texts() == ["vale", "hola", "hola"]

    asyncio.run(scenario())


def test_dead_letters_are_seen_once(world: World) -> None:
    async def scenario() -> None:
        async with world() as w:
            reader = await w.key(P.DEADLETTERS_MANAGE)
            stranger = await w.key(P.DEADLETTERS_MANAGE, account=new_id())
            letter = DeadLettered(
                dead_letter_id=new_id(), service="conversation", stream="EVT_INGEST", stream_seq=7,
                subject="evt.ingest.1.a.b.message_received", headers={"ce-id": "x\x00"}, body='{"a":"\x00ñ"}',
                reason="handler", error="ValueError: \x00no", attempts=3, at=now(),
            )  # fmt: skip
            jetstream = w.run.admin.nats.jetstream()
            subject = f"dead.conversation.{w.account}.handler"
            await jetstream.publish(subject, b"not a letter")
            for _ in range(2):
                await jetstream.publish(subject, letter.model_dump_json().encode())

            async def seen() -> bool:
                return bool((await w.ask("GET", "/dead-letters?service=conversation", reader)).json()["items"])

            assert await until(seen, 30)
            (item,) = (await w.ask("GET", "/dead-letters", reader)).json()["items"]
            assert (item["id"], item["reason"], item["state"]) == (letter.dead_letter_id, "handler", "open")
            whole = (await w.ask("GET", f"/dead-letters/{item['id']}", reader)).json()
            assert whole["body"] == letter.body
            assert (await w.ask("GET", f"/dead-letters/{item['id']}", stranger)).status_code == 404
            assert (await w.ask("GET", "/dead-letters?reason=decode", reader)).json()["items"] == []

            async def acknowledged() -> bool:
                info = await jetstream.consumer_info("DEAD", "ingest")
                return info.num_pending == 0 and info.num_ack_pending <= 1

            assert await until(acknowledged, 30)

    asyncio.run(scenario())
