"""`relevo topology plan|apply`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relevo.chassis.topology import Change
from relevo.stack import topology
from relevo.stack.commands.lifecycle import require_running
from relevo.stack.home import Home

console = Console(highlight=False)

NatsUrl = Annotated[
    str | None, typer.Option(envvar="RELEVO_NATS_URL", help="Another broker than the one that runs in this home.")
]
Credentials = Annotated[
    Path | None,
    typer.Option(envvar="RELEVO_NATS_CREDENTIALS", help="The .creds file of the topology user, for another broker."),
]
Replicas = Annotated[
    int, typer.Option(envvar="RELEVO_NATS_REPLICAS", min=1, max=5, help="Copies of each stream in a cluster.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Compare streams and durables with the catalogue, and make them so.")
    group.command("plan", epilog="Example:  relevo topology plan --json")(plan)
    group.command("apply", epilog="Example:  relevo topology apply")(apply)
    app.add_typer(group, name="topology")


def plan(
    *, nats_url: NatsUrl = None, credentials: Credentials = None, replicas: Replicas = 1, as_json: AsJson = False
) -> None:
    """Show what `apply` would change; changes nothing."""
    url, creds = _target(nats_url, credentials)
    _show(topology.plan(url, creds, replicas=replicas), as_json=as_json)


def apply(
    *,
    nats_url: NatsUrl = None,
    credentials: Credentials = None,
    replicas: Replicas = 1,
    allow_destructive: Annotated[
        bool, typer.Option("--allow-destructive", help="Also make changes that could lose messages.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make streams and durables as the catalogue says. Changes that could lose messages are refused unless allowed."""
    url, creds = _target(nats_url, credentials)
    _show(topology.apply(url, creds, replicas=replicas, allow_destructive=allow_destructive), as_json=as_json)


def _target(nats_url: str | None, credentials: Path | None) -> tuple[str, Path]:
    if nats_url is not None and credentials is not None:
        return nats_url, credentials
    home = Home.from_environment()
    status = require_running(home)
    port = next(item["port"] for item in status["servers"] if item["name"] == "nats")
    return f"nats://127.0.0.1:{port}", home.secrets / "topology.creds"


def _show(changes: list[Change], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(change) for change in changes], indent=1))
        return
    for change in changes:
        mark = "  DESTRUCTIVE" if change.destructive else ""
        console.print(f"{change.action} {change.kind} {change.name}{mark}", markup=False)
        for detail in change.details:
            console.print(f"    {detail}", markup=False)
    if not changes:
        console.print("the broker is as the catalogue says")
