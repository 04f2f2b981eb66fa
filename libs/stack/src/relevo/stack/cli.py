"""The `relevo` command line. Commands live in relevo.stack.commands; a new module is listed in _COMMANDS."""

import errno
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from relevo.stack.api import Refused
from relevo.stack.commands import account, bench, containers, lifecycle, log, replay, seed, simulate, topology
from relevo.stack.errors import Exit, StackError

_COMMANDS = (lifecycle, account, topology, log, replay, simulate, seed, bench, containers)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Environment: RELEVO_HOME (default .relevo), RELEVO_PORT (8080), RELEVO_HOST (127.0.0.1), RELEVO_NATS_PORT (4222),"
        " RELEVO_PG_PORT (5433), RELEVO_SERVICES (all), RELEVO_DEMO=0.\n\n"
        "Exit codes: 0 done · 1 failed · 2 refused, nothing changed (port taken, disk full, running already, wrong argument)"
        " · 3 not running · 4 not ready."
    ),
)


def _show_version(value: bool) -> None:
    if value:
        print(version("relevo-stack"))
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Relevo: customer conversations over a message bus, on one machine."""


for _module in _COMMANDS:
    _module.register(app)


def main() -> None:
    """The console script. What the operator can mend is said in one line, without a traceback."""
    try:
        app()
    except StackError as error:
        print(f"relevo: {error}", file=sys.stderr)
        sys.exit(error.code)
    except Refused as refusal:
        print(f"relevo: {refusal}", file=sys.stderr)
        sys.exit(Exit.FAILED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("relevo: the disk is full. Free some space and start again", file=sys.stderr)
        sys.exit(Exit.REFUSED)
