"""`relevo bench`."""

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home

console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Examples:  relevo bench   ·   relevo bench --quick   ·   relevo bench --scale conversation=2 --json two.json"
    )(bench)


def bench(
    *,
    running: Annotated[
        bool, typer.Option("--running", help="Measure the stack that runs in RELEVO_HOME, with nothing else on it.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="How long the rate that was found must hold.")] = 60.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes; only shows that it works.")
    ] = False,
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="Run N replicas of a service; may be repeated.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Where the figures go. Default: bench.json in RELEVO_HOME."),
    ] = None,
) -> None:
    """Measure throughput, latency and cost of a whole stack, beside a floor measured in the same run.

    Starts a stack of its own in a temporary home. Messages are published over NATS with an adapter's credential, at a
    steady rate whether the stack keeps up or not, and followed to their metric. A rate is sustained when the last
    message's metric, assignment and rules are there within a second of its publishing. Exit code 1: something was
    lost, or no rate held.
    """
    from relevo.stack.bench import machine, measure, place, report  # noqa: PLC0415  (the command line starts without it)

    machine.check_platform()
    home = Home.from_environment()
    if running and scale:
        raise StackError("--scale is of the stack that the benchmark starts", "Leave out --running", Exit.REFUSED)
    plan = measure.QUICK if quick else replace(measure.Plan(), seconds=seconds)
    file = file or home.path / "bench.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        console.status("starting") as status,
        nullcontext(place.running(home)) if running else place.own(scale or ()) as found,
    ):
        taken = measure.Measurement(
            found,
            plan,
            say=status.update,
            note=lambda text: console.print(f"  {text}", markup=False),
        )
        result = asyncio.run(taken.take(leave=running))
    file.write_text(json.dumps(result.document(), indent=1) + "\n")
    report.show(result, console)
    console.print(f"figures: {file}", markup=False)
    print(result.line())
    if result.problems:
        raise typer.Exit(Exit.FAILED)
