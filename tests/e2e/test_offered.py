"""Who waits is told so, who is asked hears of it and takes it, and reports count it, through the edge of a whole stack."""

from typing import Any

from whole_stack import WholeStack, message, until

PHONE = "+34600000091"


async def test_told_to_wait_then_offered_declined_and_accepted(stack: WholeStack) -> None:
    async with stack.account("ana", "berta") as account, account.adapter() as adapter:
        ana, berta = account.people
        policy = await account.admin.get("/routing/policy")
        policy |= {"hand_over": "offer", "offer_seconds": 600}
        policy["waiting_notice"] = {"texts": {"es": "Eres el {{place}}.º de la cola."}, "after_seconds": 5}
        await account.admin.put("/routing/policy", policy, if_match="*")
        await adapter.publish(message("o-1", PHONE, "¿Hay alguien?"))
        talk = await account.conversation(PHONE)

        async def told() -> bool:
            said = (await account.admin.get(f"/conversations/{talk['id']}/messages"))["items"]
            return "Eres el 1.º de la cola." in [one["text"] for one in said]

        await until(told, "the customer is told their place")

        async def offered(to: Any) -> dict[str, Any] | None:
            items: list[dict[str, Any]] = (await to.api.get("/offers"))["items"]
            return items[0] if items else None

        await ana.be("available")
        offer = await until(lambda: offered(ana), "it is offered to Ana")
        assert offer is not None
        assert offer["conversation_id"] == talk["id"]

        async def heard() -> bool:
            items = (await ana.api.get("/notifications", state="unread"))["items"]
            return [one["conversation_id"] for one in items] == [talk["id"]]

        await until(heard, "Ana is told of it")
        await berta.be("available")
        await ana.api.post(f"/conversations/{talk['id']}/offer/decline", {"why": "no_time"})
        assert await until(lambda: offered(berta), "it is offered to Berta")
        await berta.api.post(f"/conversations/{talk['id']}/offer/accept", {})
        await account.conversation(PHONE, assignee_id=berta.id)

        async def counted() -> bool:
            shown = await account.admin.get("/reports/summary", since=offer["queued_at"], until="2100-01-01T00:00:00Z")
            counts = {one["metric"]: one["count"] for one in shown["metrics"]}
            return (counts["offers_accepted"], counts["offers_declined"]) == (1, 1)

        await until(counted, "the report counts both answers")
