"""`relevo seed`: an account of synthetic conversations, in any number, to try Relevo at size."""

import asyncio
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from relevo.stack.api import Api
from relevo.stack.commands.lifecycle import require_running
from relevo.stack.commands.log import run_job
from relevo.stack.errors import StackError
from relevo.stack.home import Home
from relevo.stack.seed import role_id

_INBOXES: Final = 20
_AGENTS: Final = 12
_TEAMS: Final = ("Soporte", "Ventas", "Facturación", "Retención")
_CHANNELS: Final = ("whatsapp", "email", "webchat", "telegram", "api")
_OF_TWO: Final = 2


def register(app: typer.Typer) -> None:
    app.command(
        epilog=(
            "Examples:  relevo seed --conversations 100000   ·   relevo seed --conversations 1000000 --texts talks.jsonl\n\n"
            "The same command goes on where one that was cut short ended. Exit codes: 0 done · 1 failed · 2 refused ·"
            " 3 not running."
        )
    )(seed)


def seed(
    *,
    conversations: Annotated[int, typer.Option(min=1, help="How many; each has ten messages on average.")],
    account: Annotated[str, typer.Option(help="The account's name; made unless it is there.")] = "Synthetic",
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines with lang and text or turns, to draw texts from; else ours."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that write.")] = 2,
) -> None:
    """Fill a synthetic account with two years of conversations, written straight into the conversation service's database.

    No events are published: assignment, reporting and the other services know nothing of these conversations. While
    it runs, indexes are away and lists are slow.
    """
    home = Home.from_environment()
    port = next(item["port"] for item in require_running(home)["servers"] if item["name"] == "edge")
    edge = f"http://127.0.0.1:{port}"
    told = asyncio.run(_account(home, edge, account))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(told, file)
        file.flush()
        options = [f"--texts={path.absolute()}" for path in texts or ()]
        arguments = [f"--conversations={conversations}", f"--workers={workers}", f"--account={file.name}", *options]
        raise typer.Exit(run_job("conversation", arguments, module="seeding"))


async def _account(home: Home, edge_url: str, name: str) -> dict[str, Any]:
    """The account with its inboxes, teams and agents: what the seeding writes conversations of. Made step by step."""
    every: dict[str, Any] = home.state().get("synthetic", {})
    done: dict[str, Any] = every.setdefault(name, {})

    def remember(**values: Any) -> None:
        done.update(values)
        home.remember(synthetic=every)

    tag = secrets.token_hex(4)
    if "tag" not in done:
        remember(tag=tag, password=secrets.token_urlsafe(18))
    email = f"admin.{done['tag']}@synthetic.example"
    if "account" not in done:
        if not (home.secrets / "setup-token").exists():
            raise StackError(f"{home.path} has no setup token", "Start Relevo there first, or set RELEVO_HOME")
        async with Api(edge_url, home.secret("setup-token"), patience_seconds=120.0) as api:
            admin = {"name": "Administración", "email": email, "password": done["password"]}
            remember(account=await api.post("/setup", {"account_name": name, "admin": admin}))
    async with Api(edge_url, done["account"]["api_token"]) as api:
        if "inboxes" not in done:
            made = [
                await api.post(
                    "/inboxes", {"name": f"{channel} {n}", "channel": channel}, key=f"{done['tag']}-inbox-{n}"
                )
                for n, channel in ((n, _CHANNELS[n % len(_CHANNELS)]) for n in range(_INBOXES))
            ]
            remember(inboxes=[(inbox["id"], inbox["channel"]) for inbox in made])
        if "teams" not in done:
            teams = [
                await api.post("/teams", {"name": team}, key=f"{done['tag']}-team-{n}") for n, team in enumerate(_TEAMS)
            ]
            remember(teams=[team["id"] for team in teams])
        if "agents" not in done:
            role = await role_id(api, "agent")
            agents = []
            for n in range(_AGENTS):
                body = {
                    "name": f"Agente {n}",
                    "email": f"agente.{n}.{done['tag']}@synthetic.example",
                    "role_id": role,
                    "team_ids": [done["teams"][n % len(_TEAMS)]],
                    # The first sees two inboxes only, as in the measurements.
                    "inbox_ids": None if n else [id_ for id_, _ in done["inboxes"][:_OF_TWO]],
                    "initial_password": done["password"],
                }
                agents.append((await api.post("/agents", body, key=f"{done['tag']}-agent-{n}"))["id"])
            remember(agents=agents)
    print(
        f"account {done['account']['account_id']}: sign in as {email}, password in {os.fspath(home.path / 'state.json')}"
    )
    return {
        "account_id": done["account"]["account_id"],
        "inboxes": done["inboxes"],
        "teams": done["teams"],
        "agents": done["agents"],
    }
