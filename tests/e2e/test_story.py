"""A conversation from its first word to the report, through public interfaces only."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from whole_stack import Account, Person, WholeStack, message, until

from relevo.adapter import OutboundMessage
from relevo.contracts.base import now
from relevo.contracts.metrics import Fact, RollupDelta

# What the two conversations below must add up to.
EXPECTED = {
    "conversations_opened": 2,
    "conversations_reopened": 1,
    "conversations_resolved": 1,
    "messages_in": 3,
    "messages_out": 1,
    "replies_delivered": 1,
    "labels_added": 1,
    "rules_executed": 1,
    "first_response": 1,
    "reply_time": 1,
    "resolution": 1,
}


@pytest.mark.parametrize("killing", [False, True], ids=["undisturbed", "each service killed in turn"])
async def test_from_a_customers_word_to_the_report(stack: WholeStack, killing: bool) -> None:
    def strike(service: str) -> None:
        if killing:
            assert stack.signal(service, signal.SIGKILL)

    began = now() - timedelta(seconds=1)
    async with stack.account("ana", "berta", "carlos", "diana") as account, account.adapter() as adapter:
        handed: list[OutboundMessage] = []

        @adapter.on_outbound
        async def send(message: OutboundMessage) -> str:
            handed.append(message)
            return f"provider-{message.message_id}"

        ana, busy, _offline, full = account.people
        await account.admin.put(f"/routing/agents/{full.id}/capacity", {"capacity": 1})
        await account.admin.post(
            "/rules",
            {
                "name": "Devoluciones",
                "trigger": "message_received",
                "conditions": {"field": "message.text", "operator": "any_word", "value": ["devolución"]},
                "actions": [{"type": "add_labels", "labels": ["devolución"]}],
            },
        )

        # One agent is full, one is busy, one is not there: the fourth gets the second customer.
        await full.be("available")
        await adapter.publish(message("m-1", "+34600000001", "Buenos días"))
        strike("ingest")
        await account.conversation("+34600000001", assignee_id=full.id)
        await busy.be("available")
        await busy.be("busy")
        await ana.be("available")
        await adapter.publish(
            message("m-2", "+34600000002", "Quiero hacer una devolucion, por favor", person={"name": "José Núñez"})
        )
        strike("conversation")
        conversation = await account.conversation("+34600000002", assignee_id=ana.id, labels=["devolución"])
        assert (conversation["status"], conversation["stage"]) == ("open", "new")
        assert conversation["contact"]["name"] == "José Núñez"
        await reason_is_readable(account, conversation["id"], ana)

        reply = await ana.api.post(
            f"/conversations/{conversation['id']}/messages", {"text": "Claro, José: ¿tiene el número del pedido?"}
        )
        strike("reporting")
        await until(lambda: same(lambda: handed), "the reply at the adapter")
        (out,) = handed
        assert (out.message_id, out.recipient_id) == (reply["id"], "+34600000002")
        assert out.text == "Claro, José: ¿tiene el número del pedido?"
        await adapter.report(out.message_id, "delivered", recipient_id=out.recipient_id, external_id="provider-1")

        async def statuses() -> bool:
            stored = {m["id"]: m["status"] for m in await account.messages(conversation["id"])}
            return stored.get(reply["id"]) == "delivered"

        await until(statuses, "the reply to be shown as delivered")

        await ana.api.post(f"/conversations/{conversation['id']}/resolve")
        strike("assignment")
        resolved = await account.conversation("+34600000002", status="resolved")
        assert (resolved["id"], resolved["stage"]) == (conversation["id"], "closed")
        await adapter.publish(message("m-3", "+34600000002", "Una cosa más"))
        strike("automation")
        reopened = await account.conversation("+34600000002", status="open")
        assert (reopened["id"], reopened["cycle"]) == (conversation["id"], 2)

        said = [
            (m["kind"], m["text"])
            for m in await account.messages(conversation["id"])
            if m["kind"] in ("incoming", "outgoing")
        ]
        assert said == [
            ("incoming", "Quiero hacer una devolucion, por favor"),
            ("outgoing", "Claro, José: ¿tiene el número del pedido?"),
            ("incoming", "Una cosa más"),
        ]
        assert len(handed) == 1
        await numbers_agree(account, began)


async def reason_is_readable(account: Account, conversation_id: str, chosen: Person) -> None:
    assignment = await account.admin.get(f"/conversations/{conversation_id}/assignment")
    assert (assignment["state"], assignment["assignee_id"]) == ("assigned", chosen.id)
    assert assignment["reason"]["text"]
    assert chosen.email.partition("-")[0].title() in assignment["reason"]["text"]
    (decision,) = (await account.admin.get(f"/conversations/{conversation_id}/decisions"))["items"]
    assert decision["assignee_id"] == chosen.id
    assert (decision["candidates"], decision["runners_up"]) == (5, [])  # the administrator is one, and offline
    assert decision["excluded"] == {"at_capacity": 1, "busy": 1, "offline": 2}


async def numbers_agree(account: Account, began: Any) -> None:
    """Facts on the stream, deltas on the stream, the report and what happened: all the same."""
    facts: dict[str, Fact] = {}
    deltas: Counter[str] = Counter()

    async def listen() -> None:
        async with account.metrics() as metrics:
            async for item in metrics.follow(since=began):
                if isinstance(item, Fact):
                    facts[item.fact_id] = item
                elif isinstance(item, RollupDelta):
                    deltas[item.metric] += item.count
                counted = Counter(fact.metric for fact in facts.values())
                if all(counted[name] >= n and deltas[name] >= n for name, n in EXPECTED.items()):
                    return

    async with asyncio.timeout(20):
        await listen()
    counted = Counter(fact.metric for fact in facts.values())
    assert {name: counted[name] for name in EXPECTED} == EXPECTED
    assert {name: deltas[name] for name in EXPECTED} == EXPECTED
    period = {"since": began.isoformat(), "until": now().isoformat()}
    report = {m["metric"]: m for m in (await account.admin.get("/reports/summary", **period))["metrics"]}
    assert {name: report[name]["count"] for name in EXPECTED} == EXPECTED
    for name in ("first_response", "reply_time", "resolution"):
        (fact,) = [fact for fact in facts.values() if fact.metric == name]
        assert 0 < fact.value < 60
        assert abs(report[name]["sum"] - fact.value) < 1e-5
    shown = {fact["fact_id"] async for fact in account.admin.pages("/reports/facts", metric="messages_in", **period)}
    assert shown == {fact.fact_id for fact in facts.values() if fact.metric == "messages_in"}


async def same(look: Callable[[], Any]) -> Any:
    return look()
