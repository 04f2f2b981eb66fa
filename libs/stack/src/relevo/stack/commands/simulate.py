"""`relevo simulate`: how a past period's conversations would have been handed out under a draft."""

from pathlib import Path
from typing import Annotated

import typer

from relevo.stack.commands.log import run_job


def register(app: typer.Typer) -> None:
    app.command(
        epilog=(
            "Examples:  relevo simulate --since 2026-11-21T00:00:00Z   ·   relevo simulate --since 2026-11-21T08:00:00-05:00"
            ' --policy draft.json --seed 7\n\nA draft names what is otherwise:  {"strategy": "least_loaded", "default_capacity": 8,'
            ' "capacities": {"Ana Ruiz": 5}, "without": ["Luis"], "doubled": ["Marta"]}\n\n'
            "Exit codes: 0 done · 1 failed, or the journal does not give the decisions that were kept · 2 refused · 3 not running."
        )
    )(simulate)


def simulate(
    *,
    since: Annotated[str, typer.Option(help="Where the period begins: a moment with its zone.")],
    until: Annotated[str | None, typer.Option(help="Where it ends; without it, at the last input.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The draft, as JSON; without it, only how it was."),
    ] = None,
    account: Annotated[str | None, typer.Option(help="The account's id, where there are several.")] = None,
    limit: Annotated[float, typer.Option(min=0, help="Seconds; who waits longer waits too long.")] = 300.0,
    seed: Annotated[int, typer.Option(help="What is drawn depends on it, and on nothing else.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Decide again on what assignment has on record: waits, load and who waited too long, today against a draft.

    Reads only, in one snapshot; nothing live is touched or waits for it. What nobody can know (how long others would have
    taken, and what people would have done by hand) is drawn from the record, and the page says for how many.
    """
    given = {"--until": until, "--policy": policy and policy.absolute(), "--account": account}
    arguments = [f"{name}={value}" for name, value in given.items() if value is not None]
    flags = ["--json"] if as_json else []
    raise typer.Exit(
        run_job(
            "assignment",
            [f"--since={since}", f"--limit={limit}", f"--seed={seed}", *arguments, *flags],
            module="simulating",
        )
    )
