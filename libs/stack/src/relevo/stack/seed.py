"""The first account of a home, made through the public interface, and ``connection.json``, by which programs find all.

Every step is remembered before the next begins, so that an interrupted start goes on where it stopped.
"""

import json
import secrets
from pathlib import Path
from typing import Any

from relevo.contracts.permissions import ConversationScope, Permission
from relevo.stack.api import Api, Refused
from relevo.stack.home import Home
from relevo.stack.keys import write_secret

ACCOUNT = "Demo"
ADMIN_EMAIL = "admin@relevo.example"
AGENTS = (
    ("Ana Ruiz", "ana@relevo.example", "Soporte"),
    ("Luis Vega", "luis@relevo.example", "Soporte"),
    ("Marta Gil", "marta@relevo.example", "Ventas"),
    ("Sam Reed", "sam@relevo.example", "Ventas"),
)
TEAMS = (("Soporte", "Dudas técnicas y reclamaciones"), ("Ventas", "Consultas antes de comprar"))
RULES = (
    {
        "name": "Devoluciones",
        "trigger": "message_received",
        "conditions": {"field": "message.text", "operator": "any_word", "value": ["devolucion", "reembolso", "refund"]},
        "actions": [{"type": "add_labels", "labels": ["devolución"]}],
    },
    {
        "name": "Errores",
        "trigger": "message_received",
        "conditions": {"field": "message.text", "operator": "any_word", "value": ["error", "fallo", "broken"]},
        "actions": [{"type": "add_labels", "labels": ["soporte técnico"]}],
    },
)


def connection_file(home: Home) -> Path:
    """Where a home keeps how to reach it."""
    return home.path / "connection.json"


def connection(home: Home) -> dict[str, Any] | None:
    """The connection of a seeded home, None before."""
    file = connection_file(home)
    return json.loads(file.read_text()) if file.exists() else None


async def seed(home: Home, *, edge_url: str, nats_url: str, setup_token: str) -> dict[str, Any]:
    """Make the account, its people, an inbox and the credentials, unless they are there; write connection.json."""
    done: dict[str, Any] = home.state().get("seed", {})

    def remember(**values: Any) -> None:
        done.update(values)
        home.remember(seed=done)

    if "admin_password" not in done:
        remember(admin_password=secrets.token_urlsafe(18))
    if "account" not in done:
        remember(account=await _account(edge_url, setup_token, done["admin_password"]))
    async with Api(edge_url, done["account"]["api_token"]) as api:
        if "inbox_id" not in done:
            remember(
                inbox_id=(await api.post("/inboxes", {"name": "Tienda", "channel": "api"}, key="seed-inbox"))["id"]
            )
        if "teams" not in done:
            teams = {
                name: (await api.post("/teams", {"name": name, "description": text}))["id"] for name, text in TEAMS
            }
            remember(teams=teams)
        if "agents" not in done:
            remember(agents=await _agents(api, done["teams"]))
        if "rules" not in done:
            remember(rules=[(await api.post("/rules", rule, key=f"seed-rule-{rule['name']}"))["id"] for rule in RULES])
        if "adapter" not in done:
            adapter = await api.post("/adapter-credentials", {"inbox_id": done["inbox_id"], "name": "demo"})
            file = write_secret(home.path / "adapter.creds", adapter["credentials"])
            remember(adapter={"inbox_id": done["inbox_id"], "key": adapter["key"], "credentials": str(file)})
        if "metrics" not in done:
            metrics = await api.post("/metrics-credentials", {"name": "demo"})
            file = write_secret(home.path / "metrics.creds", metrics["credentials"])
            remember(metrics={"credentials": str(file)})
    found = {
        "edge_url": edge_url,
        "nats_url": nats_url,
        "account_id": done["account"]["account_id"],
        "admin": {"email": ADMIN_EMAIL, "password": done["admin_password"]},
        "api_token": done["account"]["api_token"],
        "adapter": done["adapter"],
        "metrics": done["metrics"],
        "agents": done["agents"],
        "teams": done["teams"],
    }
    write_secret(connection_file(home), json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return found


async def _account(edge_url: str, setup_token: str, password: str) -> dict[str, str]:
    """The account with an administrator's token; one that an interrupted start has made is signed in to."""
    try:
        async with Api(edge_url, setup_token) as api:
            made: dict[str, str] = await api.post(
                "/setup",
                {
                    "account_name": ACCOUNT,
                    "language": "es",
                    "time_zone": "Europe/Madrid",
                    "admin": {"name": "Administración", "email": ADMIN_EMAIL, "password": password},
                },
            )
        return made
    except Refused as refusal:
        if refusal.code != "already_set_up":
            raise
    async with Api(edge_url) as api:
        session = await api.post("/sessions", {"email": ADMIN_EMAIL, "password": password})
    async with Api(edge_url, session["access_token"]) as api:
        key = await api.post(
            "/api-keys", {"name": "setup", "permissions": sorted(Permission), "scope": str(ConversationScope.ALL)}
        )
        account = await api.get("/account")
    return {"account_id": account["id"], "api_token": key["key"]}


async def _agents(api: Api, teams: dict[str, str]) -> list[dict[str, str]]:
    role = await role_id(api, "agent")
    made = []
    for name, email, team in AGENTS:
        password = secrets.token_urlsafe(18)
        body = {
            "name": name,
            "email": email,
            "role_id": role,
            "team_ids": [teams[team]],
            "inbox_ids": None,
            "initial_password": password,
        }
        agent = await api.post("/agents", body, key=f"seed-{email}")
        made.append({"id": agent["id"], "name": name, "email": email, "password": password})
    return made


async def role_id(api: Api, name: str) -> str:
    """The id of a predefined role."""
    async for role in api.pages("/roles"):
        if role["predefined"] and role["name"].casefold() == name:
            return str(role["id"])
    raise LookupError(f"the account has no role {name}")
