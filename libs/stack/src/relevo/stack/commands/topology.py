"""`relevo topology plan|apply|heal`."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relevo.chassis.topology import Change
from relevo.contracts.streams import BY_NAME, OUTBOUND
from relevo.stack import topology
from relevo.stack.commands.lifecycle import require_running
from relevo.stack.errors import Exit, StackError
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

_FOUND = {"made": "was missing", "emptied": "was empty", "partly": "was emptied in part"}


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Compare streams and durables with the catalogue, and make them so.")
    group.command("plan", epilog="Example:  relevo topology plan --json")(plan)
    group.command("apply", epilog="Example:  relevo topology apply")(apply)
    group.command(
        "heal",
        epilog="Examples:  relevo topology heal  ·  relevo topology heal EVT_CONVERSATION --yes  ·  "
        "relevo topology heal OUTBOUND --since 2026-11-22T09:30:00Z",
    )(heal)
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


def heal(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STREAM]...", help="Which; all that are missing or empty, if none is named."),
    ] = None,
    *,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"],
            help="Only what was written from then on, with its offset: 2026-11-22T09:30:00Z.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nats_url: NatsUrl = None,
    credentials: Credentials = None,
    replicas: Replicas = 1,
    as_json: AsJson = False,
) -> None:
    """After a stream was purged, deleted or lost: make it again, and let its owner publish what its outbox still holds.

    Restore the broker's store instead if you can. Services handle nothing twice; adapters and readers of metrics get
    messages again, marked with the header relevo-again. OUTBOUND therefore is healed only by name and with --since:
    what is published there again is sent to customers again.
    """
    url, creds = _target(nats_url, credentials)
    chosen = names or [name for name in topology.lost(url, creds) if name != OUTBOUND.name or since is not None]
    if unknown := [name for name in chosen if name not in BY_NAME]:
        raise StackError(f"the catalogue has no stream {', '.join(unknown)}", f"Choose among {', '.join(BY_NAME)}")
    if OUTBOUND.name in chosen and since is None:
        raise StackError(
            "OUTBOUND needs --since: what is published there again is sent to customers again",
            "Give the time from which messages may not have been sent, such as --since 2026-11-22T09:30:00Z",
        )
    if not yes:
        if as_json:
            raise StackError("with --json nobody can be asked", "Add --yes")
        console.print(f"Owners will publish again what was lost of: {', '.join(chosen) or 'nothing'}", markup=False)
        if chosen and not typer.confirm("Go on?"):
            raise typer.Exit(Exit.REFUSED)
    healed = topology.heal(url, creds, chosen, replicas=replicas, since=since)
    if as_json:
        print(json.dumps([asdict(one) for one in healed], indent=1))
        return
    for one in healed:
        console.print(f"{one.name} {_FOUND[one.found]}: its owner may fill it again, up to {one.through}", markup=False)
    if not healed:
        console.print("no stream is missing or empty")


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
