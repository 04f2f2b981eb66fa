"""`relevo replay`."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home
from relevo.stack.seed import connection as read_connection

console = Console(highlight=False)
_FAULTS_SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Examples:  relevo replay conversations.jsonl --limit 500 --speed max   ·   relevo replay day.jsonl --speed 60"
    )(replay)


def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Conversations, one JSON object a line.")],
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations.")] = None,
    speed: Annotated[str, typer.Option(metavar="X|max", help="Pauses are divided by X; max: none at all.")] = "max",
    agents: Annotated[int, typer.Option(min=1, max=200, help="How many agents answer.")] = 4,
    connection: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The connection.json of another Relevo than this home's."),
    ] = None,
) -> None:
    """Play conversations through the public interfaces, then count what became of them. Exit code 1: something differs."""
    from relevo.stack.replay.source import BadSource, read  # noqa: PLC0415  (the command line starts without it)

    found = json.loads(connection.read_text()) if connection else _own()
    try:
        conversations = read(file, limit)
    except (BadSource, UnicodeDecodeError) as error:
        raise StackError(
            str(error), "Every line is one conversation: see `relevo replay --help`", Exit.REFUSED
        ) from None
    if not conversations:
        raise StackError(f"{file.name} holds no conversation that a customer begins", "", Exit.REFUSED)
    if not asyncio.run(_replay(found, conversations, _pace(speed), agents)):
        raise typer.Exit(Exit.FAILED)


def _own() -> dict[str, Any]:
    home = Home.from_environment()
    found = read_connection(home)
    if found is None or home.running_pid() is None:
        raise StackError(f"nothing runs in {home.path}", "Start it with `relevo up`", Exit.NOT_RUNNING)
    return found


def _pace(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        pace = float(speed)
    except ValueError:
        pace = 0.0
    if pace <= 0:
        raise StackError(f"--speed {speed} is neither a positive number nor max", "Try --speed 60", Exit.REFUSED)
    return pace


async def _replay(connection: dict[str, Any], conversations: list[Any], speed: float | None, agents: int) -> bool:
    from relevo.stack.replay.count import count  # noqa: PLC0415
    from relevo.stack.replay.player import Player, own_credentials  # noqa: PLC0415

    people = await _people(connection, agents)
    turns = sum(len(conversation.turns) for conversation in conversations)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    async with own_credentials(connection) as own:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(f"{len(conversations)} conversations", total=turns)
            async with Player(own, speed=speed, agents=people, progress=lambda n: progress.advance(bar, n)) as player:
                run = await player.play(conversations)
                result = await count(own, run)
    table = Table("count", "expected", "found", "")
    for line in result.lines:
        table.add_row(line.what, f"{line.expected:,}", f"{line.found:,}", "✓" if line.right else "✗")
    console.print(table)
    for fault in result.faults[:_FAULTS_SHOWN]:
        console.print(f"✗ {fault}", markup=False)
    if len(result.faults) > _FAULTS_SHOWN:
        console.print(f"… and {len(result.faults) - _FAULTS_SHOWN} more")
    console.print("no difference" if result.right else "something differs")
    return result.right


async def _people(connection: dict[str, Any], number: int) -> list[dict[str, str]]:
    """The demo's agents, and as many more as are asked for; those leave nothing behind but their names."""
    from relevo.stack.api import Api  # noqa: PLC0415
    from relevo.stack.seed import role_id  # noqa: PLC0415

    people = list(connection["agents"][:number])
    if len(people) < number:
        async with Api(connection["edge_url"], connection["api_token"]) as api:
            role = await role_id(api, "agent")
            batch = secrets.token_hex(4)
            for n in range(len(people), number):
                password = secrets.token_urlsafe(18)
                email = f"replay-{batch}-{n}@relevo.example"
                agent = await api.post(
                    "/agents",
                    {
                        "name": f"Replay {n}",
                        "email": email,
                        "role_id": role,
                        "inbox_ids": None,
                        "initial_password": password,
                    },
                )
                people.append({"id": agent["id"], "name": agent["name"], "email": email, "password": password})
    return people
