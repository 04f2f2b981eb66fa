"""The process of a service: ``python -m relevo.NAME [serve|migrate|openapi|archive|rebuild]``."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable

import uvicorn

from relevo.chassis import broker, jobs, logging, migrations
from relevo.chassis.service import Service, application
from relevo.chassis.settings import BadSettings

USAGE = "usage: python -m relevo.NAME [serve|migrate|openapi|archive|rebuild]"


def main(build: Callable[[], Service]) -> None:
    """Do what the command line asks; exits 2 for settings that cannot be used."""
    command = sys.argv[1] if len(sys.argv) > 1 else "serve"
    if command not in {"serve", "migrate", "openapi", "archive", "rebuild"}:
        sys.exit(USAGE)
    if command == "openapi":
        os.environ.setdefault("RELEVO_DATABASE_URL", "postgresql://nobody@localhost/none")
    try:
        service = build()
    except BadSettings as error:
        print(error, file=sys.stderr)  # noqa: T201  (nobody has set up logs yet)
        sys.exit(2)
    if command == "openapi":
        print(json.dumps(application(service).openapi(), indent=2, ensure_ascii=False, sort_keys=True))  # noqa: T201
        return
    logging.configure(service.name, level=service.settings.log_level, form=service.settings.log_format)
    if command == "migrate":
        migrations.migrate(service.settings.database_url, service.migrations)
        return
    if command in {"archive", "rebuild"}:
        sys.exit(jobs.run(service, sys.argv[1:]))
    serve(service)


def serve(service: Service) -> None:
    """Run until SIGTERM or SIGINT, drain, and come back.

    Exits 3 when the start fails, 78 when the broker is one that could lose messages.
    """
    settings = service.settings
    app = application(service)
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        date_header=False,
        timeout_keep_alive=settings.http_keep_alive_seconds,
        limit_concurrency=settings.http_max_connections,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        ws_max_size=64 * 1024,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has drained; a drained process has ended well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve())
    except SystemExit:
        if getattr(app.state, "refused", None):
            sys.exit(broker.EXIT_CODE)
        raise
    if not server.started:
        sys.exit(3)
