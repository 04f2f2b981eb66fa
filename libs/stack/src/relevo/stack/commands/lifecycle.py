"""`relevo up`, `down`, `status`, `logs`, `psql`."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import typer
from rich.console import Console
from rich.table import Table

from relevo.chassis.tenancy import Entry
from relevo.stack import databases, observe, room, topology, wiring
from relevo.stack.errors import Exit, StackError
from relevo.stack.home import Home
from relevo.stack.postgres import programs_folder
from relevo.stack.process import wait_for
from relevo.stack.readiness import StreamFill, outdated, unready
from relevo.stack.seed import connection as read_connection
from relevo.stack.seed import connection_file
from relevo.stack.supervisor import Stack

console = Console(highlight=False)
_DETACHED_SECONDS = 180.0
_DOWN_SECONDS = 90.0


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Examples:  relevo up   ·   relevo up --detach --scale conversation=3   ·   RELEVO_PORT=9000 relevo up"
    )(up)
    app.command(epilog="Example:  relevo down")(down)
    app.command(epilog="Examples:  relevo status   ·   relevo status --json | jq .services")(status)
    app.command(epilog="Examples:  relevo logs conversation   ·   relevo logs nats --lines 200 --follow")(logs)
    app.command(epilog="Example:  relevo psql conversation --account 01920000-0000-7000-8000-000000000000")(psql)


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once everything is ready.")] = False,
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="Run N replicas of a service; may be repeated.")
    ] = None,
    demo: Annotated[bool, typer.Option(envvar="RELEVO_DEMO", help="Seed the demo account and play traffic.")] = True,
) -> None:
    """Start everything: PostgreSQL, NATS, every service, the edge. Ctrl-C drains and stops it."""
    replicas = _scale(scale or [])
    home = Home.from_environment()
    if detach:
        _detach(home, scale or [], demo=demo)
        return
    stack = Stack(
        home,
        replicas,
        lambda line: console.print(f"  {line}", markup=False),
        prepare_bus=lambda url, creds: topology.apply(url, creds, room=room.for_streams(home.place.root)),
        after_start=(_seed, _announce, *((_play,) if demo else ())),
    )
    console.print(f"Relevo starts in {home.path}", markup=False)
    with _own_terminal():
        stack.run()


@contextmanager
def _own_terminal() -> Iterator[None]:
    """Take the terminal from `make`: it would end with an error at a Ctrl-C, although everything drained well."""
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty():
        yield
        return
    terminal, before = sys.stdin.fileno(), os.tcgetpgrp(sys.stdin.fileno())
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else a group in the background is stopped for asking
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, before)


def down() -> None:
    """Drain and stop what runs in this home."""
    home = Home.from_environment()
    pid = home.running_pid()
    if pid is None:
        raise StackError(f"nothing runs in {home.path}", "Start it with `relevo up`", Exit.NOT_RUNNING)
    os.kill(pid, 15)
    if not wait_for(lambda: home.running_pid() != pid, _DOWN_SECONDS, every=0.1):
        raise StackError(f"process {pid} still drains", f"Look at {home.logs}", Exit.FAILED)
    console.print("stopped")


def status(*, as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Show servers and services. Exit code 0: all ready, 3: not running, 4: something is not ready."""
    home = Home.from_environment()
    document = _read_status(home)
    if document is not None:
        _add_figures(document)
    if as_json:
        print(json.dumps(document or {"phase": "stopped", "servers": [], "services": [], "streams": []}, indent=1))
    elif document is None:
        console.print(f"nothing runs in {home.path}", markup=False)
    else:
        _print_status(document)
    if document is None:
        raise typer.Exit(Exit.NOT_RUNNING)
    if (
        document["phase"] != "ready"
        or document["outdated"]
        or not all(item["ready"] for item in (*document["servers"], *document["services"]))
    ):
        raise typer.Exit(Exit.NOT_READY)


def logs(
    name: Annotated[str, typer.Argument(help="A service (conversation, conversation-2), postgres, nats or edge.")],
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is added.")] = False,
) -> None:
    """Print the last lines of a process's log."""
    home = Home.from_environment()
    log = home.logs / f"{name}.log"
    if "/" in name or not log.exists():
        known = sorted(path.stem for path in home.logs.glob("*.log"))
        raise StackError(f"there is no log of {name}", f"There are: {', '.join(known) or 'none yet'}")
    with log.open(errors="replace") as file:
        print("".join(file.readlines()[-lines:]), end="", flush=True)
        try:
            while follow:
                text = file.read()
                if log.stat().st_size < file.tell():
                    file.seek(0)  # it was rotated
                print(text, end="", flush=True)
                time.sleep(0.3)
        except KeyboardInterrupt:
            return


def psql(
    name: Annotated[str, typer.Argument(help="A service: its database is opened, as its own role.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to psql, after `--`.")] = None,
    account: Annotated[
        list[UUID] | None, typer.Option(help="See the rows of this account (may be given again); of none without it.")
    ] = None,
) -> None:
    """Open a service's database with psql."""
    services = wiring.installed()
    if name not in services:
        raise StackError(f"there is no service {name}", f"Choose among {', '.join(services)}")
    home = Home.from_environment()
    document = require_running(home)
    port = next(item["port"] for item in document["servers"] if item["name"] == "postgres")
    role = databases.name_of(name)
    done = subprocess.run(
        [str(programs_folder() / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", role, role, *(arguments or [])],
        env={
            **os.environ,
            "PGPASSWORD": home.secret(f"postgres-{name}"),
            "PGOPTIONS": f"-c relevo.accounts={Entry.into(map(str, account or ())).accounts}",
        },
        check=False,
    )
    raise typer.Exit(done.returncode)


def _scale(options: list[str]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    services = wiring.installed()
    for option in options:
        name, _, number = option.partition("=")
        if name not in services or not number.isdecimal() or not 0 < int(number) <= 16:
            raise StackError(
                f"--scale {option}: write SERVICE=N with N from 1 to 16", f"Services: {', '.join(services)}"
            )
        chosen[name] = int(number)
    return chosen


def _detach(home: Home, scale: list[str], *, demo: bool) -> None:
    if (pid := home.running_pid()) is not None:
        raise StackError(
            f"Relevo runs already in {home.path} (process {pid})",
            "Stop it with `relevo down`, or set RELEVO_HOME and other ports for a second one",
        )
    home.prepare()
    log = home.logs / "supervisor.log"
    began_at = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "relevo.stack",
                "up",
                "--demo" if demo else "--no-demo",
                *(part for option in scale for part in ("--scale", option)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "RELEVO_HOME": str(home.path), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )

    def settled() -> bool:
        document = _read_status(home)
        return process.poll() is not None or (
            document is not None and document["pid"] == process.pid and document["phase"] == "ready"
        )

    with console.status("starting"):
        in_time = wait_for(settled, _DETACHED_SECONDS, every=0.1)
    said = log.read_bytes()[began_at:].decode(errors="replace").strip()
    if process.poll() is not None:
        line = said.rpartition("relevo: ")[2] if "relevo: " in said else said
        code = process.returncode
        raise StackError(
            line or "it ended at once", code=Exit(code) if code in Exit._value2member_map_ else Exit.FAILED
        )
    if not in_time:
        raise StackError(f"it is not ready after {_DETACHED_SECONDS:.0f} s", f"Look at {home.logs}", Exit.NOT_READY)
    console.print(said, markup=False)


def _seed(stack: Stack) -> None:
    """The first account and connection.json, where they are not there yet."""
    from relevo.stack.seed import seed  # noqa: PLC0415  (only the process that seeds needs it)

    assert stack.edge is not None
    assert stack.nats is not None
    if {"identity", "ingest", "automation"} <= set(stack.services):
        asyncio.run(
            seed(
                stack.home,
                edge_url=stack.edge.url,
                nats_url=stack.nats.url,
                setup_token=stack.home.secret("setup-token"),
            )
        )


def _announce(stack: Stack) -> None:
    assert stack.edge is not None
    console.print(f"Relevo is ready: {stack.edge.url}  (API at {stack.edge.url}/api/v1)", markup=False)
    found = read_connection(stack.home)
    if found:
        console.print(
            f"Sign in as {found['admin']['email']}; password and keys: {connection_file(stack.home)}", markup=False
        )


def _play(stack: Stack) -> None:
    """The demo's traffic; its live table where somebody looks."""
    from relevo.stack.demo import Board, Traffic  # noqa: PLC0415

    found = read_connection(stack.home)
    if found is None:
        return
    traffic = Traffic(found, stack.report)
    traffic.start()
    stack.before_stop.append(traffic.stop)
    if console.is_terminal:
        ports = [(instance.service, instance.port) for instance in stack.instances]
        board = Board(console, ports, f"{found['edge_url']}   Ctrl-C drains and stops")
        board.start()
        stack.before_stop.insert(0, board.stop)


def require_running(home: Home) -> dict[str, Any]:
    """The status of what runs in this home. Raises StackError when nothing does."""
    document = _read_status(home)
    if document is None:
        raise StackError(f"nothing runs in {home.path}", "Start it with `relevo up --detach`", Exit.NOT_RUNNING)
    return document


def _read_status(home: Home) -> dict[str, Any] | None:
    """What the running supervisor last wrote; None when none runs."""
    pid = home.running_pid()
    try:
        document: dict[str, Any] = json.loads(home.status_file.read_text())
    except (OSError, ValueError):
        return None
    if document["pid"] != pid:
        return None
    return document | {"outdated": outdated(document["written"], datetime.now(UTC))}


def _add_figures(document: dict[str, Any]) -> None:
    """What each process says of itself: events handled since it started, what waits now, what it gave up on.

    One that has ended since the supervisor looked is not ready: the supervisor sees that only when it looks again.
    """
    with httpx.Client(timeout=1, trust_env=False) as client:
        for item in document["services"]:
            figures = observe.read(client, item["port"]) if item["ready"] else None
            if figures is not None:
                item |= {
                    "handled": figures.handled,
                    "lag": figures.lag + figures.pending,
                    "dead_letters": figures.dead_letters,
                }
            elif item["ready"] and observe.ended(item["port"]):
                again = f"its process has just ended, and is started again by itself; see `relevo logs {item['name']}`"
                item |= {"ready": False, "missing": again}


def _print_status(document: dict[str, Any]) -> None:
    console.print(
        f"Relevo {document['version']}: {document['phase']} since {document['started']}  {document['url'] or ''}",
        markup=False,
    )
    names = ("name", "pid", "port", "ready", "restarts", "handled", "lag", "dead letters")
    table = Table(*names, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(len(item["name"]) for item in (*document["servers"], *document["services"]))
    for item in (*document["servers"], *document["services"]):
        table.add_row(
            item["name"],
            str(item["pid"] or "-"),
            str(item["port"]),
            "yes" if item["ready"] else "[red]no[/red]",
            *(str(item.get(name, "")) for name in ("restarts", "handled", "lag", "dead_letters")),
        )
    console.print(table)
    # Below the table, as long as they are: these lines tell what to do.
    if document["outdated"]:
        console.print(document["outdated"], markup=False)
    for line in unready(document["servers"], document["services"]):
        console.print(line, markup=False)
    for item in document["streams"]:
        fill = StreamFill(item["name"], item["held"], item["limit"], item["per_second"])
        if filling := fill.line(datetime.now(UTC)):
            console.print(filling, markup=False)
