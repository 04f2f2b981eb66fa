"""`relevo archive` and `relevo rebuild`: jobs of the services, each a process of its own beside those that serve."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from relevo.stack import databases, wiring
from relevo.stack.commands.lifecycle import require_running
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home

AsJson = Annotated[bool, typer.Option("--json", help="For machines: JSON lines.")]


def register(app: typer.Typer) -> None:
    app.command(
        epilog=(
            "Examples:  relevo rebuild reporting reports   ·   relevo rebuild realtime   (lists its projections)   ·"
            "   relevo rebuild conversation directory --json\n\n"
            "Exit codes: 0 done · 1 failed, the tables in use are untouched; the same command goes on where it ended ·"
            " 2 refused: no such projection, or it is being rebuilt already · 3 not running."
        )
    )(rebuild)
    app.command(
        epilog=(
            "Examples:  relevo archive   ·   relevo archive conversation --json   ·"
            "   RELEVO_ARCHIVE_AFTER_SECONDS=0 relevo archive\n\n"
            "Exit codes: 0 done · 1 a day that is due could not go (the line says why) · 2 refused · 3 not running."
        )
    )(archive)


def rebuild(
    service: Annotated[str, typer.Argument(help="The service whose projection it is.")],
    projection: Annotated[str | None, typer.Argument(help="Its name; without one, they are listed.")] = None,
    *,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, also when a rebuild that ended early could go on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read the whole log again into a projection's tables. The service goes on meanwhile; nothing is published again.

    The log is read from the archive, the outboxes and the streams. The new tables take the place of the old ones in one
    transaction, at exactly the place where the service is.
    """
    arguments = ["rebuild", *([projection] if projection else []), *(["--restart"] if restart else [])]
    raise typer.Exit(run_job(service, [*arguments, *(["--json"] if as_json else [])]))


def archive(
    services: Annotated[list[str] | None, typer.Argument(help="Services; without any, all.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Move the outbox days that are due to the object store now. The services do it by themselves every hour."""
    codes = [
        run_job(service, ["archive", *(["--json"] if as_json else [])]) for service in services or wiring.installed()
    ]
    raise typer.Exit(max(codes))


def run_job(service: str, arguments: list[str], *, module: str = "") -> int:
    """Run a job of a service, or a module of it, with the environment that its process has; the exit code."""
    if service not in wiring.installed():
        raise StackError(
            f"there is no service {service}", f"Choose among {', '.join(wiring.installed())}", Exit.REFUSED
        )
    home = Home.from_environment()
    ports = {item["name"]: item["port"] for item in require_running(home)["servers"]}
    name = databases.name_of(service)
    told = wiring.environment(
        service,
        home,
        database_url=f"postgresql://{name}:{home.secret(f'postgres-{service}')}@127.0.0.1:{ports['postgres']}/{name}",
        nats_url=f"nats://127.0.0.1:{ports['nats']}",
        nats_monitor_url=f"http://127.0.0.1:{home.state()['ports']['nats-monitoring']}",
        files=wiring.bus_files(home, wiring.installed()),
        http_port=0,
        public_url="",
    )
    done = subprocess.run(
        [sys.executable, "-m", ".".join(filter(None, ("relevo", service, module))), *arguments],
        env={"RELEVO_LOG_LEVEL": "warning", **os.environ, **told},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode
