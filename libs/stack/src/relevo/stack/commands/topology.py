"""`relevo topology plan|apply|limits|heal`."""

import json
import shutil
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from relevo.chassis.topology import ROOM, Change, Fill
from relevo.contracts.streams import BY_NAME, OUTBOUND
from relevo.stack import room, topology
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
        "limits",
        epilog="Examples:  relevo topology limits  ·  relevo topology limits EVT_CONVERSATION=20GiB INBOUND=8GiB/3d",
    )(limits)
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
    _show(topology.plan(url, creds, replicas=replicas, room=_room(nats_url)), as_json=as_json)


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
    done = topology.apply(url, creds, replicas=replicas, allow_destructive=allow_destructive, room=_room(nats_url))
    _show(done, as_json=as_json)


def limits(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STREAM=SIZE[/AGE]]...", help="What a stream may hold, and for how long; none: show them."
        ),
    ] = None,
    *,
    nats_url: NatsUrl = None,
    credentials: Credentials = None,
    as_json: AsJson = False,
) -> None:
    """Show how full the streams are, or change what they may hold, while everything runs.

    A full stream refuses what is new; what services have to say waits in their databases and goes out when there is room.
    """
    wanted = dict(_limit(change) for change in changes or [])
    url, creds = _target(nats_url, credentials)
    if nats_url is None:
        _check_room(topology.fills(url, creds), wanted)
    for before, after in topology.limit(url, creds, wanted) if wanted else ():
        if not as_json:
            console.print(
                f"{after.name}: {room.shown(before.limit)}, {_days(before)} → {room.shown(after.limit)}, {_days(after)}",
                markup=False,
            )
    if wanted and not as_json:
        return
    shown = topology.fills(url, creds)
    if as_json:
        print(json.dumps([asdict(fill) | {"age": fill.age.total_seconds()} for fill in shown], indent=1))
        return
    table = Table("stream", "holds", "may hold", "full", "keeps", box=None, pad_edge=False)
    for fill in shown:
        table.add_row(
            fill.name, room.shown(fill.held), room.shown(fill.limit), f"{100 * fill.ratio:.0f} %", _days(fill)
        )
    console.print(table)


def _room(nats_url: str | None) -> int:
    """What streams that are to be made share: of another broker nobody knows the disk."""
    if nats_url is None:
        return room.for_streams(Home.from_environment().place.root)
    return room.given() or ROOM


def _days(fill: Fill) -> str:
    return f"{fill.age / timedelta(days=1):g} d"


def _limit(text: str) -> tuple[str, tuple[int | None, timedelta | None]]:
    name, _, rest = text.partition("=")
    size, _, age = rest.partition("/")
    if name not in BY_NAME:
        raise StackError(f"the catalogue has no stream {name}", f"Choose among {', '.join(BY_NAME)}")
    try:
        return name, (room.size(size) if size else None, room.age(age) if age else None)
    except ValueError as error:
        raise StackError(f"{text}: {error}", "Write STREAM=20GiB, STREAM=20GiB/3d or STREAM=/3d") from None


def _check_room(fills: list[Fill], wanted: dict[str, tuple[int | None, timedelta | None]]) -> None:
    """The streams together must fit on the disk of this home; raises StackError."""
    limits = {fill.name: fill.limit for fill in fills} | {
        name: max_bytes for name, (max_bytes, _) in wanted.items() if max_bytes is not None
    }
    free = shutil.disk_usage(Home.from_environment().place.root).free
    more = sum(limits.values()) - sum(fill.held for fill in fills)
    if any(max_bytes for max_bytes, _ in wanted.values()) and more > free:
        raise StackError(
            f"all streams full would take {room.shown(more)} more, {room.shown(free)} are free on the disk",
            "Give this one less, another less, or all a larger disk",
        )


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
    healed = topology.heal(url, creds, chosen, replicas=replicas, since=since, room=_room(nats_url))
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
