"""`relevo bench`."""

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home

if TYPE_CHECKING:
    from relevo.stack.bench.results import Plan

console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Examples:  relevo bench   ·   relevo bench --quick   ·   relevo bench --all --docs docs"
        "   ·   relevo bench --only accounts   ·   relevo bench --scale conversation=2 --json two.json"
    )(bench)


class Part(StrEnum):
    """What can be measured by itself."""

    REPLICAS = "replicas"
    ACCOUNTS = "accounts"
    CONVERSATIONS = "conversations"
    PROFILE = "profile"


def bench(
    *,
    running: Annotated[
        bool, typer.Option("--running", help="Measure the stack that runs in RELEVO_HOME, with nothing else on it.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="How long the rate that was found must hold.")] = 60.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes; only shows that it works.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="S2 to S6, the sweeps and the profile as well: more than an hour.")
    ] = False,
    full: Annotated[bool, typer.Option("--scenarios", help="S2 to S6 as well.")] = False,
    only: Annotated[list[Part] | None, typer.Option(help="This sweep or profile alone; may be repeated.")] = None,
    also: Annotated[
        list[Part] | None, typer.Option(help="This sweep or profile as well; may be repeated. All of them: --all.")
    ] = None,
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="Run N replicas of a service; may be repeated.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Where the figures go. Default: bench.json in RELEVO_HOME."),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write benchmarks.md and benchmarks.json there too.")
    ] = None,
) -> None:
    """Measure throughput, latency and cost of a whole stack, beside a floor and a baseline measured in the same run.

    Starts a stack of its own in a temporary home. Messages are published over NATS with an adapter's credential, at a
    steady rate whether the stack keeps up or not, and followed to their metric. A rate is sustained when the last
    message's metric, assignment and rules are there within a second of its publishing. Exit code 1: something was
    lost, or no rate held.
    """
    from relevo.stack.bench import (  # noqa: PLC0415  (the command line starts without it)
        machine,
        measure,
        place,
        report,
        results,
    )

    machine.check_platform()
    home = Home.from_environment()
    if running and (scale or only or also or everything):
        raise StackError(
            "--scale, --only, --also and --all are of stacks that the benchmark starts",
            "Leave out --running",
            Exit.REFUSED,
        )
    if also and only:
        raise StackError("--only leaves out what --also is added to", "Leave out one of them", Exit.REFUSED)
    if docs and only:
        raise StackError("--docs is of a whole measurement", "Leave out --only", Exit.REFUSED)
    plan = results.QUICK if quick else replace(results.Plan(), seconds=seconds)
    file = file or home.path / "bench.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with console.status("starting") as status:

        def note(text: str) -> None:
            console.print(f"  {text}", markup=False)

        parts = list(Part) if everything else only or also or []
        document: dict[str, Any] = {"sweeps": {}, "profile": {}, "problems": []}
        if not only:
            with nullcontext(place.running(home)) if running else place.own(scale or ()) as found:
                taking = measure.take(found, plan, leave=running, full=full or everything, say=status.update, note=note)
                document = asyncio.run(taking).document()
            _keep(file, document)
        for part in parts:
            try:
                asyncio.run(_beside(part, document, plan, status.update, note, quick=quick))
            except StackError as error:  # an hour's other figures stay
                document["problems"].append(f"{part}: {error}")
            _keep(file, document)
    if docs is not None:
        report.write(document, docs)
    if only:
        report.show(report.beside(document), console)
    else:
        report.show(report.sections(document), console)
    console.print(f"\nfigures: {file}", markup=False)
    if not only:
        print(results.line(document))
    if document["problems"]:
        raise typer.Exit(Exit.FAILED)


async def _beside(
    part: Part,
    document: dict[str, Any],
    plan: "Plan",
    say: Callable[[str], None],
    note: Callable[[str], None],
    *,
    quick: bool,
) -> None:
    """A sweep or the profile, in stacks of its own, into the document."""
    from relevo.stack.bench import profile, sweeps  # noqa: PLC0415

    match part:
        case Part.REPLICAS:
            points = sweeps.replicas((1, 2) if quick else (1, 2, 3), plan, say=say, note=note)
        case Part.ACCOUNTS:
            points = sweeps.accounts((1, 3) if quick else (1, 10, 100), plan, say=say, note=note)
        case Part.CONVERSATIONS:
            counts = (0, 1000) if quick else (0, 100_000, 1_000_000)
            points = sweeps.conversations(counts, plan, say=say, note=note)
        case Part.PROFILE:
            document["profile"] = await profile.take(plan, say=say, note=note)
            return
    async for point in points:
        document["sweeps"].setdefault(part, []).append(point)


def _keep(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=1) + "\n")
