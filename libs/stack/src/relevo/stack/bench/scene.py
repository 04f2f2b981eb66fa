"""Who takes part in a measurement: agents who are available, two teams, two rules, an inbox, the two credentials."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from relevo.contracts.base import new_id
from relevo.stack.api import Api, Refused
from relevo.stack.bench.place import Place
from relevo.stack.errors import Exit, StackError
from relevo.stack.keys import write_secret
from relevo.stack.seed import ADMIN_EMAIL, connection, role_id

CAPACITY = 10_000
"""Conversations an agent may hold: nobody is ever full, so that assigning is measured and not waiting."""
_KNOWN_WITHIN = 60.0
_AT_ONCE = 4


@dataclass(slots=True)
class Scene:
    """What was made for a measurement."""

    account_id: str
    inbox_id: str
    agents: list[str]
    rules: list[str]
    teams: list[str]
    adapter: dict[str, str] = field(repr=False)
    metrics: dict[str, str] = field(repr=False)
    api_token: str = field(repr=False)
    edge_url: str

    async def leave(self) -> None:
        """Take away what would go on acting in a home that lives on: agents go offline, rules and credentials end."""
        async with Api(self.edge_url, self.api_token) as api:
            for agent in self.agents:
                with suppress(Refused):
                    await api.put(f"/presence/{agent}", {"state": "offline"})
        await _delete(
            self.edge_url,
            self.api_token,
            [
                *(f"/rules/{rule}" for rule in self.rules),
                f"/adapter-credentials/{self.adapter['credential']}",
                f"/metrics-credentials/{self.metrics['credential']}",
            ],
        )


async def make(place: Place, folder: Path, *, agents: int, alone: bool, known: bool = True) -> Scene:
    """Make them through the public interface; returns when assignment knows that all agents are available.

    ``alone``: the account's other rules are removed. ``known``: in the home's own account, where it has one.
    """
    account_id, token = await _account(place, known=known)
    mark = new_id()[-8:]
    async with Api(place.edge_url, token) as api:
        if alone:
            await _delete(place.edge_url, token, [f"/rules/{rule['id']}" async for rule in api.pages("/rules")])
        inbox = (await api.post("/inboxes", {"name": f"Bench {mark}", "channel": "api"}))["id"]
        teams = [(await api.post("/teams", {"name": f"Bench {mark} {n}"}))["id"] for n in (1, 2)]
        role = await role_id(api, "agent")
        places = asyncio.Semaphore(_AT_ONCE)

        async def agent(number: int) -> str:
            body = {
                "name": f"Bench {mark} {number}",
                "email": f"bench-{mark}-{number}@relevo.example",
                "role_id": role,
                "team_ids": [teams[number % len(teams)]],
                "inbox_ids": [inbox],
                "initial_password": secrets.token_urlsafe(18),
            }
            async with places:
                return await _sign_up(api, place.edge_url, body)

        people = await asyncio.gather(*map(agent, range(agents)))
        rules = [await _patiently(partial(api.post, "/rules", rule)) for rule in _rules(inbox)]
        adapter = await _patiently(
            partial(api.post, "/adapter-credentials", {"inbox_id": inbox, "name": f"bench {mark}"})
        )
        metrics = await api.post("/metrics-credentials", {"name": f"bench {mark}"})
        await asyncio.gather(
            *(
                _patiently(partial(api.put, f"/routing/agents/{person}/capacity", {"capacity": CAPACITY}))
                for person in people
            )
        )
        await _available(api, set(people))
    return Scene(
        account_id=account_id,
        inbox_id=inbox,
        agents=list(people),
        rules=[rule["id"] for rule in rules],
        teams=teams,
        adapter=_kept(folder / f"bench-adapter-{mark}.creds", adapter),
        metrics=_kept(folder / f"bench-metrics-{mark}.creds", metrics),
        api_token=token,
        edge_url=place.edge_url,
    )


def _kept(path: Path, issued: dict[str, Any]) -> dict[str, str]:
    return {"credential": issued["id"], "credentials": str(write_secret(path, issued["credentials"]))}


async def _delete(edge_url: str, token: str, paths: list[str]) -> None:
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*"}
    async with httpx.AsyncClient(base_url=f"{edge_url}/api/v1", headers=headers, timeout=15) as client:
        for path in paths:
            (await client.delete(path)).raise_for_status()


async def _account(place: Place, *, known: bool) -> tuple[str, str]:
    """The account's id and a token of its administrator: of the account that the home knows, or else of a new one."""
    if known and (found := connection(place.home)) is not None:
        return found["account_id"], found["api_token"]
    async with Api(place.edge_url, place.home.secret("setup-token")) as api:
        made = await api.post(
            "/setup",
            {
                "account_name": f"Bench {new_id()[-8:]}",
                "language": "es",
                "time_zone": "Europe/Madrid",
                "admin": {"name": "Bench", "email": f"{new_id()}.{ADMIN_EMAIL}", "password": secrets.token_urlsafe(18)},
            },
        )
    return made["account_id"], made["api_token"]


async def _sign_up(api: Api, edge_url: str, body: dict[str, Any]) -> str:
    """An agent, signed in and available; their id."""
    made = await _patiently(partial(api.post, "/agents", body))
    async with Api(edge_url) as anonymous:
        session = await anonymous.post("/sessions", {"email": body["email"], "password": body["initial_password"]})
    async with Api(edge_url, session["access_token"]) as own:
        await _patiently(partial(own.put, "/presence/me", {"state": "available"}))
    return str(made["id"])


def _rules(inbox: str) -> list[dict[str, Any]]:
    """One matches every tenth message of the load, one none."""
    return [
        {
            "name": name,
            "trigger": "message_received",
            "conditions": {"field": "message.text", "operator": "any_word", "value": words},
            "actions": [{"type": "add_labels", "labels": [name]}],
            "inbox_ids": [inbox],
        }
        for name, words in (("bench avería", ["avería"]), ("bench garantía", ["garantía"]))
    ]


async def _patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until every service has heard of what was made in another a moment ago. Raises Refused after a minute."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _KNOWN_WITHIN
    while True:
        try:
            return await ask()
        except Refused as refused:
            if refused.status not in (401, 403, 404, 422) or loop.time() > end:
                raise
        await asyncio.sleep(0.1)


async def _available(api: Api, people: set[str]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + _KNOWN_WITHIN
    while True:
        ready = {
            item["agent_id"]
            for item in (await api.get("/routing/agents"))["items"]
            if item["state"] == "available" and item["capacity"] >= CAPACITY
        }
        if people <= ready:
            return
        if loop.time() > end:
            raise StackError(
                f"{len(people - ready)} of {len(people)} agents are not available {_KNOWN_WITHIN:.0f} s after they were"
                " set to be",
                "Look at the logs of presence and assignment",
                Exit.FAILED,
            )
        await asyncio.sleep(0.1)
