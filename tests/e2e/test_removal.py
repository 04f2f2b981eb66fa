"""Whoever is removed is out at once, everywhere: sessions, sockets, API keys, bus credentials; their work is handed back."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import nats
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from whole_stack import Account, Person, WholeStack, message, until

from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.stack.api import Api

WITHIN = 2.0
"""Seconds from asking for the removal."""

# One of each service; each must say who it does not know (any more) before it says anything else.
DOORS = {
    "identity": ("GET", "/me"),
    "conversation": ("GET", "/conversations"),
    "ingest": ("GET", "/inboxes"),
    "presence": ("GET", "/presence/me"),
    "assignment": ("GET", "/queue"),
    "automation": ("GET", "/rules"),
    "reporting": ("GET", "/reports/facts"),
    "notification": ("GET", "/notifications"),
    "realtime": ("POST", "/socket/tickets"),
    "channels": ("GET", "/channels/0197a3a0-0000-7000-8000-000000000000"),
}


async def hire_who_makes_keys(account: Account) -> tuple[Person, str]:
    """An agent who may make keys and credentials too; and their refresh token."""
    granted = ROLES["agent"].permissions | {
        Permission.KEYS_MANAGE,
        Permission.INBOUND_PUBLISH,
        Permission.BUS_READ,
        Permission.INBOXES_MANAGE,
        Permission.AUTOMATIONS_MANAGE,
    }
    role = await account.admin.post(
        "/roles", {"name": "Con claves", "permissions": sorted(granted), "scope": str(ConversationScope.ALL)}
    )
    email, password = f"eva-{secrets.token_hex(4)}@relevo.example", secrets.token_urlsafe(18)
    body = {"name": "Eva", "email": email, "role_id": role["id"], "inbox_ids": None, "initial_password": password}
    agent = await account.admin.post("/agents", body)
    async with Api(account.stack.edge_url) as anybody:
        session = await anybody.post("/sessions", {"email": email, "password": password})
    person = Person(agent["id"], email, password, Api(account.stack.edge_url, session["access_token"]))
    account.people.append(person)
    return person, session["refresh_token"]


async def test_a_removed_agent_is_out_everywhere_within_two_seconds(stack: WholeStack) -> None:
    async with stack.account("berta") as account, account.adapter() as adapter:
        berta = account.people[0]
        eva, refresh_token = await hire_who_makes_keys(account)
        token = eva.api._client.headers["Authorization"]
        issued = await eva.api.post(
            "/api-keys", {"name": "suya", "permissions": [Permission.CONVERSATIONS_READ], "scope": "all"}
        )
        credential = await eva.api.post("/adapter-credentials", {"inbox_id": account.inbox_id, "name": "suya"})
        creds = Path(account.adapter_creds).parent / "eva.creds"
        creds.write_text(credential["credentials"])

        # She has two conversations, one of which she has answered.
        await eva.be("available")
        for sender in ("+34600000001", "+34600000002"):
            await adapter.publish(message(f"m-{sender}", sender))
        mine = [await account.conversation(sender, assignee_id=eva.id) for sender in ("+34600000001", "+34600000002")]
        await eva.api.post(f"/conversations/{mine[0]['id']}/messages", {"text": "Ahora lo miro."})

        async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", trust_env=False, timeout=10) as client:
            session, key = {"Authorization": token}, {"Authorization": f"Bearer {issued['key']}"}
            for headers in (session, key):
                for service, (method, path) in DOORS.items():
                    answer = await client.request(method, path, headers=headers)
                    assert answer.status_code != 401, (service, answer.text)
            ticket = await eva.api.post("/socket/tickets")
            address = stack.edge_url.replace("http://", "ws://")
            gone: asyncio.Future[float] = asyncio.get_running_loop().create_future()

            async def disconnected() -> None:
                if not gone.done():
                    gone.set_result(time.monotonic())

            on_bus = await nats.connect(
                stack.nats_url, user_credentials=str(creds), allow_reconnect=False, disconnected_cb=disconnected
            )
            async with connect(f"{address}/api/v1/socket?ticket={ticket['ticket']}", proxy=None) as socket:
                await socket.recv()  # hello
                began = time.monotonic()
                await account.admin.delete(f"/agents/{eva.id}")

                async def refused(headers: dict[str, str], method: str, path: str) -> float:
                    async def look() -> bool:
                        return (await client.request(method, path, headers=headers)).status_code == 401

                    await until(look, f"{method} {path} refused")
                    return time.monotonic() - began

                async def released(conversation: dict[str, Any]) -> float:
                    async def look() -> bool:
                        found = await account.admin.get(f"/conversations/{conversation['id']}")
                        return bool(found["assignee_id"] is None)

                    await until(look, "the conversation to be released")
                    return time.monotonic() - began

                measured = await all_of(
                    {f"session at {name}": lambda door=door: refused(session, *door) for name, door in DOORS.items()}
                    | {f"key at {name}": lambda door=door: refused(key, *door) for name, door in DOORS.items()}
                    | {f"conversation {n}": lambda one=one: released(one) for n, one in enumerate(mine)}
                    | {"socket": lambda: closed(socket, began), "bus": lambda: cut(gone, began)}
                )
            await on_bus.close()
            print("\n" + "\n".join(f"{what:26} {seconds * 1000:6.0f} ms" for what, seconds in measured.items()))
            late = {what: seconds for what, seconds in measured.items() if seconds > WITHIN}
            assert not late

            again = await client.post("/sessions/refresh", json={"refresh_token": refresh_token})
            assert again.status_code == 401
            entered = await client.post("/sessions", json={"email": eva.email, "password": eva.password})
            assert entered.status_code == 401

        await work_is_handed_back(stack, account, mine, berta)
        await history_keeps_the_name(stack, account, mine[0]["id"], eva.id)


async def all_of(waits: dict[str, Callable[[], Awaitable[float]]]) -> dict[str, float]:
    """All at the same time, each with the seconds that it took."""
    seconds = await asyncio.gather(*(wait() for wait in waits.values()))
    return dict(zip(waits, seconds, strict=True))


async def closed(socket: Any, began: float) -> float:
    """The socket was closed by the server, who says why."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            async for _ in socket:
                pass
    assert socket.close_code == 4401
    return time.monotonic() - began


async def cut(gone: asyncio.Future[float], began: float) -> float:
    """The broker ended the connection."""
    async with asyncio.timeout(20):
        return await gone - began


async def work_is_handed_back(
    stack: WholeStack, account: Account, conversations: list[dict[str, Any]], colleague: Person
) -> None:
    """Each has its event with the reason, waits in the queue, and goes to who comes next."""
    for conversation in conversations:
        id_ = conversation["id"]
        decided = told(stack, account, "assignment", id_, "conversation_queued")
        assert [
            (e["from_assignee_id"], e["assignee_id"]) for e in decided if e["reason"]["code"] == "agent_removed"
        ] == [(conversation["assignee_id"], None)]
        handed = told(stack, account, "conversation", id_, "assignee_changed")
        changes = [(e["from_assignee_id"], e["conversation"]["assignee_id"]) for e in handed]
        assert changes.count((conversation["assignee_id"], None)) == 1
    await colleague.be("available")
    for conversation in conversations:

        async def taken(of: str = conversation["id"]) -> bool:
            return bool((await account.admin.get(f"/conversations/{of}"))["assignee_id"] == colleague.id)

        await until(taken, "a colleague to have it")


def told(stack: WholeStack, account: Account, service: str, entity: str, event: str) -> list[dict[str, Any]]:
    """What a service published about an entity, in order."""
    rows = stack.rows(
        service,
        "select convert_from(body, 'UTF8')::json from outbox where subject = %s order by id",
        [f"evt.{service}.{account.id}.{entity}.{event}"],
    )
    return [row[0] for row in rows]


async def history_keeps_the_name(stack: WholeStack, account: Account, conversation: str, agent: str) -> None:
    """What she wrote is hers, and the log tells who removed her."""
    said = [m for m in await account.messages(conversation) if m["kind"] == "outgoing"]
    assert [(m["author"], m["author_name"]) for m in said] == [(f"agent:{agent}", "Eva")]
    log = (await account.admin.get("/audit", entity_id=agent))["items"]
    assert log[0]["action"] == "agent.removed"
    assert (log[0]["before"]["name"], log[0]["actor_name"]) == ("Eva", "setup")
    assert [a["id"] async for a in account.admin.pages("/agents") if a["id"] == agent] == []
    assert stack.rows("identity", "select name from agents where id = %s", [agent]) == [("Eva",)]
