"""What comes in at the two doors: repetitions count once, faults are put aside with their reason, the line moves on."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import nats
import nats.errors
import pytest
from nats.aio.client import Client
from whole_stack import Account, WholeStack, message, until

from relevo.adapter import sender_key
from relevo.adapter.metrics import credential_id
from relevo.contracts.base import new_id, now
from relevo.contracts.grants import inbox_prefix
from relevo.contracts.streams import INBOUND
from relevo.stack.api import Api, Refused

REPETITIONS = 1000
CONNECTIONS = 8


async def connect(account: Account, refusals: list[str] | None = None) -> Client:
    """The adapter's credential without the SDK: it publishes what the SDK would not."""

    async def on_error(error: Exception) -> None:
        if refusals is not None:
            refusals.append(str(error))

    return await nats.connect(
        account.stack.nats_url,
        user_credentials=str(account.adapter_creds),
        inbox_prefix=inbox_prefix(credential_id(account.adapter_creds)),
        error_cb=on_error,
    )


def subject(account: Account, sender: str, kind: str = "message") -> str:
    return INBOUND.subject(account=account.id, inbox=account.inbox_id, sender=sender_key(sender), kind=kind)


async def test_the_same_message_a_thousand_times_over_both_doors_is_one(stack: WholeStack) -> None:
    async with stack.account() as account:
        event = message("once", "s-1", "Sólo una vez")
        body = event.model_dump_json(exclude_none=True).encode()
        each = REPETITIONS // CONNECTIONS
        verdicts: Counter[str] = Counter()

        async def by_nats() -> None:
            client = await connect(account)
            for _ in range(each):  # ids of their own: the bus must not fold them before ingest sees them
                await client.publish(
                    subject(account, "s-1"), body, headers={"Nats-Msg-Id": new_id()}, reply="_INBOX_none.x"
                )
                await client.flush()
            await client.close()

        async def by_http() -> None:
            async with account.http_door() as door:
                for _ in range(each // 5):
                    answer = await door.post(f"/inbound/{account.inbox_id}", {"events": [json.loads(body)] * 5})
                    verdicts.update(result["status"] for result in answer["results"])

        await asyncio.gather(*(by_nats() if n % 2 else by_http() for n in range(CONNECTIONS)))
        assert verdicts["accepted"] <= 1
        assert verdicts.total() == REPETITIONS // 2
        # What comes behind them in the same lane is through: so are they.
        async with account.adapter() as adapter:
            await adapter.publish(message("behind", "s-1", "Y otra"))
        conversation = await account.conversation("s-1", message_count=2)
        assert [m["external_id"] for m in await account.messages(conversation["id"])] == ["once", "behind"]
        seen = await account.admin.get(f"/inbound/{account.inbox_id}/senders", id="s-1")
        assert seen["accepted"] == 2
        assert (await account.admin.get("/quarantine"))["items"] == []


def faulty(account: Account) -> list[tuple[str, str, bytes]]:
    """Reason, subject, body: each wrong in one way."""
    good = json.loads(message("x", "bad").model_dump_json(exclude_none=True))

    def body(**changes: Any) -> bytes:
        whole = {name: value for name, value in (good | changes).items() if value is not None}
        return json.dumps(whole, ensure_ascii=False).encode()

    at = subject(account, "bad")
    attachments = [{"url": "https://files.example/" + "😀" * 4000}] * 15
    return [
        ("not_json", at, b'{"kind": "message", '),
        ("not_utf8", at, body().replace(b"hola", b"\xff\xfe")),
        ("not_object", at, b"[1, 2]"),
        ("kind_unknown", at, body(kind="fax")),
        ("field_missing", at, body(external_id=None)),
        ("text_too_long", at, body(external_id="x" * 513)),
        ("not_a_time", at, body(occurred_at="yesterday")),
        ("time_without_offset", at, body(occurred_at="2026-03-01T09:30:00")),
        ("occurred_at_in_future", at, body(occurred_at=(now() + timedelta(days=30)).isoformat())),
        ("text_too_long", at, body(content={"text": "x" * 150_001})),
        ("event_too_large", at, body(content={"text": "😀" * 150_000, "attachments": attachments})),
        ("duplicate_field", at, body().replace(b'"kind"', b'"external_id": "y", "kind"', 1)),
        ("too_deep", at, deep(body())),
        ("identifier_invalid", at, body(external_id="a\u0000b")),
        ("sender_key_mismatch", subject(account, "somebody else"), body()),
        ("kind_mismatch", subject(account, "bad", "status"), body()),
    ]


def deep(body: bytes) -> bytes:
    return body[:-1] + b', "more": ' + b"[" * 200 + b"]" * 200 + b"}"


async def test_faulty_events_from_the_bus_are_kept_aside_with_their_reason(stack: WholeStack) -> None:
    async with stack.account() as account, account.adapter() as adapter:
        client = await connect(account)
        await adapter.publish(message("before", "good"))
        events = faulty(account)
        for _, where, body in events:
            ack = json.loads((await client.request(where, body, timeout=30)).data)
            assert "error" not in ack
        await adapter.publish(message("after", "good"))
        await adapter.publish(message("fine", "bad"))
        await client.close()

        conversation = await account.conversation("good", message_count=2)
        assert [m["external_id"] for m in await account.messages(conversation["id"])] == ["before", "after"]
        await account.conversation("bad", message_count=1)

        async def all_there() -> bool:
            return bool((await account.admin.get("/quarantine/counts"))["open"] >= len(events))

        await until(all_there, "every faulty event in quarantine")
        kept = [item async for item in account.admin.pages("/quarantine", inbox_id=account.inbox_id)]
        assert sorted(item["reason"] for item in kept) == sorted(reason for reason, _, _ in events)
        assert all(item["faults"][0]["detail"] for item in kept)
        assert (await account.admin.get("/dead-letters"))["items"] == []
        counts = (await account.admin.get("/quarantine/counts"))["groups"]
        assert {group["reason"]: group["occurrences"] for group in counts} == Counter(reason for reason, _, _ in events)

        mended = json.loads(message("mended", "bad").model_dump_json(exclude_none=True))
        first = next(item for item in kept if item["reason"] == "not_json")
        assert (await account.admin.post(f"/quarantine/{first['id']}/retry", {"body": mended}))["status"] == "accepted"
        await account.conversation("bad", message_count=2)


async def test_faulty_events_at_the_http_door_are_refused_one_by_one(stack: WholeStack) -> None:
    # These are faults of what JSON cannot hold, or of the bus's subject: the door refuses the request as a whole.
    apart = {"not_json", "not_utf8", "duplicate_field", "too_deep", "sender_key_mismatch", "kind_mismatch"}
    async with stack.account() as account, account.http_door() as door:
        where = f"/inbound/{account.inbox_id}"
        events = [(reason, json.loads(body)) for reason, _, body in faulty(account) if reason not in apart]
        good = json.loads(message("good", "good").model_dump_json(exclude_none=True))
        answer = await door.post(where, {"events": [body for _, body in events] + [good]})
        *refused, taken = answer["results"]
        assert [result["error"]["code"] for result in refused] == [reason for reason, _ in events]
        assert [result["status"] for result in refused] == ["rejected"] * len(events)
        assert taken == {"external_id": "good", "status": "accepted", "error": None}
        await account.conversation("good", message_count=1)

        async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", trust_env=False) as raw:
            key = {"Authorization": f"Bearer {account.adapter_key}"}
            for body, code in ((b"{", "not_json"), (b"[]", "malformed_batch"), (b"\xff", "not_utf8")):
                refusal = await raw.post(where, content=body, headers=key)
                assert (refusal.status_code, refusal.json()["code"]) == (400, code)
            refusal = await raw.post(where, content=b" " * (9 * 1024 * 1024), headers=key)
            assert refusal.status_code == 413
            refusal = await raw.post(where, json={"events": [good] * 1001}, headers=key)
            assert (refusal.status_code, refusal.json()["code"]) == (422, "too_many_events")


async def test_an_adapter_reaches_its_inbox_and_no_other(stack: WholeStack) -> None:
    async with stack.account() as mine, stack.account() as theirs:
        sibling = (await mine.admin.post("/inboxes", {"name": "Otro", "channel": "api"}))["id"]
        refusals: list[str] = []
        client = await connect(mine, refusals)
        body = message("x", "s").model_dump_json().encode()
        key = sender_key("s")
        forbidden = [
            INBOUND.subject(account=mine.id, inbox=sibling, sender=key, kind="message"),
            INBOUND.subject(account=theirs.id, inbox=theirs.inbox_id, sender=key, kind="message"),
            subject(mine, "s") + ".more",
            subject(mine, "s").rpartition(".")[0],
            f"inbound.3.{mine.id}.{mine.inbox_id}.{key}.message",
            f"outbound.{mine.id}.{mine.inbox_id}.{key}.message",
            "$JS.API.STREAM.MSG.GET.INBOUND",
            "$JS.API.CONSUMER.CREATE.OUTBOUND.mine",
            f"$JS.API.CONSUMER.MSG.NEXT.OUTBOUND.{credential_id(theirs.adapter_creds)}",
        ]
        for where in forbidden:
            with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
                await client.request(where, body, timeout=0.3)
        assert [text for text in refusals if "permissions violation" not in text.lower()] == []
        assert len(refusals) == len(forbidden)
        assert "error" not in json.loads((await client.request(subject(mine, "s"), body, timeout=30)).data)
        await client.close()

        async with mine.http_door() as door:
            for inbox in (sibling, theirs.inbox_id):
                with pytest.raises(Refused) as refused:
                    await door.post(f"/inbound/{inbox}", {"events": [json.loads(body)]})
                assert (refused.value.status, refused.value.code) == (403, "wrong_inbox")
            with pytest.raises(Refused) as refused:
                await door.get("/conversations")
            assert refused.value.status == 403
        await mine.conversation("s", message_count=1)
        assert (await theirs.admin.get("/conversations"))["items"] == []


async def test_an_account_sees_its_own_metrics_and_conversations_only(stack: WholeStack) -> None:
    async with stack.account() as mine, stack.account() as theirs:
        async with mine.adapter() as adapter:
            await adapter.publish(message("m", "s"))
        conversation = await mine.conversation("s")
        refusals: list[str] = []

        async def on_error(error: Exception) -> None:
            refusals.append(str(error))

        name = credential_id(theirs.metrics_creds)
        client = await nats.connect(
            stack.nats_url,
            user_credentials=str(theirs.metrics_creds),
            inbox_prefix=inbox_prefix(name),
            error_cb=on_error,
        )
        filters = [f"metrics.{mine.id}.>", "metrics.>", f"metrics.*.{theirs.id}.>"]
        tried = [(f"$JS.API.CONSUMER.CREATE.METRICS.{name}.{wanted}", wanted) for wanted in filters]
        tried += [(f"$JS.API.CONSUMER.CREATE.METRICS.{name}", filters[0])]
        tried += [("$JS.API.STREAM.MSG.GET.METRICS", "")]
        for where, wanted in tried:
            request = {"stream_name": "METRICS", "config": {"name": name, "filter_subject": wanted}}
            with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError)):
                await client.request(where, json.dumps(request).encode(), timeout=0.3)
        assert len([text for text in refusals if "permissions violation" in text.lower()]) == len(tried)
        # The allowed subject with another's filter in the body.
        request = {"stream_name": "METRICS", "config": {"name": name, "filter_subject": filters[0]}}
        allowed = f"$JS.API.CONSUMER.CREATE.METRICS.{name}.metrics.{theirs.id}.>"
        answer = json.loads((await client.request(allowed, json.dumps(request).encode(), timeout=30)).data)
        assert "error" in answer
        await client.close()

        for path in ("", "/messages", "/assignment", "/decisions"):
            with pytest.raises(Refused) as refused:
                await theirs.admin.get(f"/conversations/{conversation['id']}{path}")
            assert refused.value.status == 404
        with pytest.raises(Refused) as refused:
            await theirs.admin.post(f"/conversations/{conversation['id']}/messages", {"text": "hola"})
        assert refused.value.status == 404
        async with Api(stack.edge_url, "relevo_wrong_key") as nobody:
            with pytest.raises(Refused) as refused:
                await nobody.get("/conversations")
            assert refused.value.status == 401
