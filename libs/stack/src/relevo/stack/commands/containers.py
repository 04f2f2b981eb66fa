"""`relevo containers prepare|setup`: the steps before the services of docker-compose.yml start."""

import os
from pathlib import Path
from typing import Annotated

import typer

from relevo.stack import containers, wiring
from relevo.stack.home import Home

Prepared = Annotated[
    Path,
    typer.Option(
        "--folder", envvar="RELEVO_PREPARED", help="Holds a folder for each container (each a volume of its own)."
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="What containers need before they start (docker-compose.yml).")
    group.command("prepare", epilog="Example:  relevo containers prepare --folder /prepared")(prepare)
    group.command("setup", epilog="Example:  relevo containers setup --folder /prepared")(setup)
    app.add_typer(group, name="containers")


def prepare(folder: Prepared) -> None:
    """Make the secrets where none are yet, and write each container's configuration. What is there already stays."""
    services = wiring.installed()
    containers.prepare(Home.from_environment(), folder, containers.from_environment(os.environ), services)
    print(f"prepared {len(services)} services, PostgreSQL, NATS and the edge")


def setup(folder: Prepared) -> None:
    """Make databases, roles, streams and tables as this version wants them. What is there already stays."""
    servers = containers.from_environment(os.environ)
    containers.setup(Home.from_environment(), folder, servers, wiring.installed(), lambda line: print(line, flush=True))
