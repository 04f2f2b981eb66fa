"""Alembic, in the one way that services use it: forward only, online, one replica at a time.

A service's `migrations/env.py` is `from relevo.chassis.migrations import run; run()`. Alembic is imported only within
these functions: a serving process never pays for it.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_LOCK: Final = 0x72656C65766F  # "relevo": the advisory lock of whoever migrates this database
_LOCK_TIMEOUT: Final = "10s"
_WITH_DDL: Final = ("outbox", "positions", "dead_letters", "directory", "idempotency", "timers")


def create_chassis_tables(op: Any) -> None:
    """Create the chassis' own tables; the first step of every service's first migration."""
    for name in _WITH_DDL:
        ddl: tuple[str, ...] = importlib.import_module(f"relevo.chassis.{name}").DDL_V1
        for statement in ddl:
            op.execute(statement)


def create_log_tables(op: Any) -> None:
    """Create the tables of the archive and of rebuilds; every service's second migration."""
    for name in ("archive", "rebuild"):
        ddl: tuple[str, ...] = importlib.import_module(f"relevo.chassis.{name}").DDL_V2
        for statement in ddl:
            op.execute(statement)


def create_handled_table(op: Any) -> None:
    """Create what a consumer remembers of what it handled."""
    from relevo.chassis import positions  # noqa: PLC0415

    for statement in positions.DDL_V2:
        op.execute(statement)


def create_erasure_tables(op: Any) -> None:
    """Create what a service remembers of people that it was told to forget."""
    from relevo.chassis import erasing  # noqa: PLC0415

    for statement in erasing.DDL_V4:
        op.execute(statement)


def create_drop_tables(op: Any) -> None:
    """Create what a service remembers of accounts that it was told to drop."""
    from relevo.chassis import dropping  # noqa: PLC0415

    for statement in dropping.DDL:
        op.execute(statement)


def create_webhook_tables(op: Any) -> None:
    """Create the tables of outgoing webhooks."""
    from relevo.chassis.webhooks import tables  # noqa: PLC0415

    for statement in tables.DDL:
        op.execute(statement)


@contextmanager
def every_row(op: Any, *tables: str) -> Iterator[None]:
    """Let a migration change rows of every account: within the block, and within its transaction, the wall is open."""
    for table in tables:
        op.execute(f"alter table {table} no force row level security")
    yield
    for table in tables:
        op.execute(f"alter table {table} force row level security")


def migrate(database_url: str, package: str, revision: str = "head") -> None:
    """Bring a database to a revision of this package's migrations; does nothing when it is there already.

    Two processes may do it at once: the second waits for the first. Every migration is a transaction of its own; a
    statement that waits longer than ten seconds for a lock fails, rather than stop the traffic behind it.

    Then the wall between accounts is put on every table of accounts (`tenancy.guard`). The package may name ``DOORS``
    and ``ACCOUNT_COLUMNS``.
    """
    from alembic import command  # noqa: PLC0415

    from relevo.chassis import tenancy  # noqa: PLC0415

    command.upgrade(_config(database_url, package), revision)
    wall = importlib.import_module(package)
    tenancy.guard(database_url, getattr(wall, "DOORS", ()), getattr(wall, "ACCOUNT_COLUMNS", None))


def run() -> None:
    """The body of every `env.py`."""
    from alembic import context  # noqa: PLC0415
    from sqlalchemy import create_engine, make_url, pool, text  # noqa: PLC0415

    if context.is_offline_mode():
        raise RuntimeError("migrations run against a database: there is no offline mode")
    url = context.config.attributes.get("database_url") or os.environ["RELEVO_DATABASE_URL"]
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            # Taken before the lock timeout: a second replica waits for as long as the first one needs.
            connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text(f"set lock_timeout = '{_LOCK_TIMEOUT}'"))
            # A migration is of no account: what it changes in rows it must not miss silently. See `every_row`.
            connection.execute(text("set row_security = off"))
            connection.commit()
            context.configure(connection=connection, transaction_per_migration=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


def _config(database_url: str, package: str) -> Any:
    from alembic.config import Config  # noqa: PLC0415

    source = importlib.import_module(package).__file__
    if source is None:
        raise RuntimeError(f"{package} has no __init__.py")
    config = Config(attributes={"database_url": database_url})
    config.set_main_option("script_location", str(Path(source).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
