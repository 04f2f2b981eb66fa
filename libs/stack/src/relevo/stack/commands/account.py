"""`relevo account create|export|deleted|demo`."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from relevo.contracts.catalogue import SERVICES
from relevo.stack.api import Api
from relevo.stack.commands.lifecycle import require_running
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home
from relevo.stack.seed import connection_file, seed
from relevo.stack.taking_along import Part, take_along

console = Console(highlight=False, soft_wrap=True)
_SHORTEST_PASSWORD = 12
_START_SECONDS = 120.0  # it may be the first thing asked of services that still start

EdgeUrl = Annotated[
    str | None, typer.Option(envvar="RELEVO_EDGE_URL", help="Another Relevo than the one that runs in this home.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Accounts: each an organisation of its own.")
    group.command(
        "create",
        epilog=(
            "Examples:  relevo account create 'Tienda Sol' --admin 'Ana Ruiz' --email ana@example.com"
            "   ·   … --password-file secret.txt --language en --json"
        ),
    )(create)
    group.command(
        "export",
        epilog="Example:  RELEVO_API_KEY=… relevo account export tienda-sol --edge-url https://relevo.example.com",
    )(export)
    group.command("deleted", epilog="Example:  relevo account deleted --json")(deleted)
    group.command("demo", epilog="Example:  relevo account demo")(demo)
    app.add_typer(group, name="account")


def create(
    name: Annotated[str, typer.Argument(help="The organisation.")],
    *,
    admin: Annotated[str, typer.Option(help="The first administrator's name.")],
    email: Annotated[str, typer.Option(help="The first administrator signs in with it.")],
    password_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Holds the password; without it one is made and shown."),
    ] = None,
    language: Annotated[str, typer.Option(help="es or en.")] = "es",
    time_zone: Annotated[str, typer.Option(help="An IANA time zone.")] = "Europe/Madrid",
    edge_url: EdgeUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines; holds the API token too.")] = False,
) -> None:
    """Make an account with its first administrator."""
    home = Home.from_environment()
    edge = edge_url or _edge(home)
    password = password_file.read_text().strip() if password_file else secrets.token_urlsafe(18)
    if len(password) < _SHORTEST_PASSWORD:
        raise StackError(f"the password has {len(password)} characters", f"Take {_SHORTEST_PASSWORD} or more")
    body = {
        "account_name": name,
        "language": language,
        "time_zone": time_zone,
        "admin": {"name": admin, "email": email, "password": password},
    }

    async def ask() -> dict[str, str]:
        async with Api(edge, _setup_token(home), patience_seconds=_START_SECONDS) as api:
            made: dict[str, str] = await api.post("/setup", body)
        return made

    made = asyncio.run(ask())
    if as_json:
        print(json.dumps(made | {"email": email} | ({} if password_file else {"password": password})))
        return
    shown = "as given" if password_file else password
    console.print(f"account {made['account_id']}\nsign in as {email}, password {shown}", markup=False)


def export(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Made if missing; parts that are there stay.")],
    *,
    key: Annotated[
        str,
        typer.Option(
            envvar="RELEVO_API_KEY",
            help="An API key, or a session's token, that may manage the account; others on this machine see arguments, not variables.",
            show_default=False,
        ),
    ],
    edge_url: EdgeUrl = None,
) -> None:
    """Take a whole account along: every service's part, checked to be whole. The same again goes on where it ended."""
    edge = edge_url or _edge(Home.from_environment())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def told(part: Part) -> None:
        what = part.error or f"{part.rows:,} rows, {part.files:,} files, {part.size / 1e6:,.1f} MB"
        console.print(f"{part.service:13} {what}", markup=False)

    parts = asyncio.run(take_along(edge, key, folder, SERVICES, told))
    missing = [part.service for part in parts if part.error]
    if missing:
        raise StackError(f"not exported: {', '.join(missing)}", "Ask again: what is there already stays", Exit.FAILED)
    console.print(f"whole, in {folder}", markup=False)


def demo(
    *,
    edge_url: EdgeUrl = None,
    nats_url: Annotated[
        str | None, typer.Option(envvar="RELEVO_NATS_URL", help="The broker, as adapters reach it.")
    ] = None,
) -> None:
    """Make the demo account (people, teams, rules, an inbox with an adapter), unless it is there; for `replay`."""
    home = Home.from_environment()
    edge = edge_url or _edge(home)
    bus = nats_url or f"nats://127.0.0.1:{_port(home, 'nats')}"
    found = asyncio.run(seed(home, edge_url=edge, nats_url=bus, setup_token=_setup_token(home)))
    console.print(
        f"sign in as {found['admin']['email']}; password and keys: {connection_file(home)}",
        markup=False,
    )


def deleted(
    *,
    edge_url: EdgeUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Whole certificates, one a line.")] = False,
) -> None:
    """The accounts that were deleted, or are at this moment, and what was dropped of each."""
    home = Home.from_environment()
    edge = edge_url or _edge(home)

    async def ask() -> list[dict[str, Any]]:
        async with Api(edge, _setup_token(home), patience_seconds=_START_SECONDS) as api:
            return [one async for one in api.pages("/setup/deleted-accounts")]

    for one in asyncio.run(ask()):
        if as_json:
            print(json.dumps(one))
            continue
        rows = sum(table["rows"] for part in one["parts"] for table in part["tables"])
        counts = {name: sum(part[name] for part in one["parts"]) for name in ("log", "messages", "files")}
        told = f"{rows} rows, {counts['log']} of logs, {counts['messages']} messages, {counts['files']} files"
        console.print(f"{one['account_id']}  {one['done_at'] or one['state']}  {told}", markup=False)


def _setup_token(home: Home) -> str:
    if not (home.secrets / "setup-token").exists():
        raise StackError(f"{home.path} has no setup token", "Start Relevo there first, or set RELEVO_HOME")
    return home.secret("setup-token")


def _edge(home: Home) -> str:
    return f"http://127.0.0.1:{_port(home, 'edge')}"


def _port(home: Home, name: str) -> int:
    servers = require_running(home)["servers"]
    return int(next(item["port"] for item in servers if item["name"] == name))
