"""An agent hears of what is given to them and of what customers write, through the edge of a whole stack."""

from typing import Any

from whole_stack import WholeStack, message, until


async def test_given_written_to_and_answered(stack: WholeStack) -> None:
    async with stack.account("ana", "berta") as account, account.adapter() as adapter:
        ana, berta = account.people

        async def mine(unread: int) -> list[dict[str, Any]]:
            async def look() -> bool:
                return bool((await ana.api.get("/notifications/unread"))["unread"] == unread)

            await until(look, f"{unread} unread notifications of Ana")
            items: list[dict[str, Any]] = (await ana.api.get("/notifications", state="unread"))["items"]
            return items

        await ana.be("available")
        await adapter.publish(message("n-1", "+34600000071", "¿Dónde está mi pedido?"))
        talk = await account.conversation("+34600000071", assignee_id=ana.id)
        (given,) = await mine(1)
        assert (given["kind"], given["conversation_id"], given["folds"]) == ("assignment", talk["id"], 1)
        await adapter.publish(message("n-2", "+34600000071", "¿Hola?"))

        async def written() -> dict[str, Any] | None:
            (one,) = await mine(1)
            return one if one["kind"] == "message" else None

        told = await until(written, "what the customer wrote")
        assert told is not None
        assert (told["body"], told["folds"]) == ("¿Hola?", 2)
        # Her answer is proof that she has seen it.
        await ana.api.post(f"/conversations/{talk['id']}/messages", {"text": "Ahora mismo lo miro."})
        assert await mine(0) == []
        assert (await berta.api.get("/notifications"))["items"] == []
        # The stack has a key of its own for web push.
        assert len((await ana.api.get("/notifications/push"))["public_key"]) == 87
