"""What a service can be told to do once, beside serving: archive what is due, rebuild a projection.

A job is a process of its own with the service's environment; the serving replicas go on. It prints what it did, as
JSON lines with ``--json``, and answers the exit code: 0 done, 1 failed (the reason in one line), 2 refused.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psycopg

from relevo.chassis import directory
from relevo.chassis.archive import Archive
from relevo.chassis.bus import Bus, BusError
from relevo.chassis.database import Database, Pool, described
from relevo.chassis.log import Log
from relevo.chassis.projection import Projection
from relevo.chassis.rebuild import Progress, Rebuild, RebuildFailed, RebuildRefused
from relevo.chassis.service import Service

DONE, FAILED, REFUSED = 0, 1, 2
_EVERY_EVENTS = 5000


def projections(service: Service) -> dict[str, Projection]:
    """Every projection of a service by name: the directory, and its own."""
    every = (*directory.projections(service.name), *service.projections)
    return {projection.name: projection for projection in every}


def run(service: Service, arguments: Sequence[str]) -> int:
    """Do what the command line asks, once."""
    parser = argparse.ArgumentParser(prog=f"python -m relevo.{service.name}")
    commands = parser.add_subparsers(dest="command", required=True)
    rebuild = commands.add_parser("rebuild", help="read the log again into a projection's tables")
    rebuild.add_argument("projection", nargs="?", help="without one: list them")
    rebuild.add_argument("--restart", action="store_true", help="begin anew, also when one that died could go on")
    archive = commands.add_parser("archive", help="move closed outbox days to the object store now")
    for command in (rebuild, archive):
        command.add_argument("--json", action="store_true", dest="as_json")
    chosen = parser.parse_args(arguments)
    work = _archive(service, chosen) if chosen.command == "archive" else _rebuild(service, chosen)
    try:
        return asyncio.run(work)
    except RebuildRefused as error:
        return _fail(chosen, str(error), REFUSED)
    except RebuildFailed as error:
        return _fail(chosen, str(error), FAILED)
    except (psycopg.Error, BusError, OSError) as error:
        return _fail(chosen, described(error), FAILED)


async def _archive(service: Service, chosen: argparse.Namespace) -> int:
    settings = service.settings
    store = settings.archive()
    if store is None:
        return _fail(
            chosen,
            "no object store: set RELEVO_ARCHIVE_URL (file:///folder or s3://bucket/prefix) or RELEVO_FILES",
            REFUSED,
        )
    after = timedelta(seconds=settings.archive_after_seconds)
    done = await Archive(service.name, settings.database_url, store, after, service.placed).run()
    if done is None:
        return _fail(chosen, "another process archives at this moment", REFUSED)
    if chosen.as_json:
        _say({"service": service.name, **asdict(done)})
    else:
        _line(f"{service.name}: {done.days} days, {done.segments} segments, {done.rows} rows, {done.bytes} bytes")
    return _fail(chosen, f"a day that is due stays: {done.kept}", FAILED) if done.kept else DONE


async def _rebuild(service: Service, chosen: argparse.Namespace) -> int:
    known = projections(service)
    if chosen.projection is None:
        for name, projection in known.items():
            reads = sorted(stream.name for stream in projection.sources)
            if chosen.as_json:
                _say({"projection": name, "tables": projection.tables, "streams": reads})
            else:
                _line(f"{name}: {', '.join(projection.tables)} (from {', '.join(reads)})")
        return DONE
    if chosen.projection not in known:
        reason = f"{service.name} has no projection {chosen.projection}; there are: {', '.join(known) or 'none'}"
        return _fail(chosen, reason, REFUSED)
    settings = service.settings
    credentials = str(settings.nats_credentials) if settings.nats_credentials else None
    bus = Bus(service.name, settings.nats_url, credentials)
    database = Database(
        Pool(settings.database_url, service=service.name, size=4, lease_seconds=settings.partition_lease_seconds),
        service.name,
    )
    told = 0

    def report(progress: Progress) -> None:
        nonlocal told
        if progress.phase != "reading" or progress.events - told >= _EVERY_EVENTS:
            told = progress.events
            if chosen.as_json:
                _say(progress.as_dict())
            else:
                where = f" {progress.lane}" if progress.lane else ""
                _line(
                    f"{progress.projection}: {progress.phase}{where}, {progress.events} events, {progress.seconds:.1f} s"
                )

    await bus.connect()
    try:
        owned = Log(database, settings.archive())
        rebuild = Rebuild(known[chosen.projection], bus=bus, database=database, owned=owned, report=report)
        await rebuild.run(restart=chosen.restart)
    finally:
        await bus.close()
        await database.close()
    return DONE


def _fail(chosen: argparse.Namespace, reason: str, code: int) -> int:
    if chosen.as_json:
        _say({"error": reason})
    print(f"{chosen.command}: {reason}", file=sys.stderr)  # noqa: T201  (the answer to whoever called)
    return code


def _say(document: dict[str, Any]) -> None:
    _line(json.dumps(document))


def _line(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the answer to whoever called)
