"""The service's own database: one engine, and transactions that carry events with them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy.exc
from nats.errors import Error as NatsError
from psycopg.types.array import ListBinaryDumper
from relevo.chassis import outbox
from relevo.chassis.crash import crash_point
from relevo.contracts.base import Model
from relevo.contracts.envelope import Envelope
from sqlalchemy import Executable, event
from sqlalchemy.engine import CursorResult, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "30s"


def create_engine(url: str, *, service: str, pool_size: int, lease_seconds: float) -> AsyncEngine:
    """An engine whose sessions can stall nobody: lock, statement and idle-in-transaction time-outs are set.

    A stopped process must not hold row locks against the replica that takes over, hence an idle transaction ends
    with the lease.
    """
    options = (
        f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout={STATEMENT_TIMEOUT} "
        f"-c idle_in_transaction_session_timeout={int(lease_seconds * 1000)} -c timezone=UTC -c jit=off"
    )
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # bodies and secrets stay out of error texts
        pool_timeout=10,
        connect_args={"options": options, "application_name": f"relevo-{service}", "connect_timeout": 5},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def send_arrays_binary(connection: Any, _: Any) -> None:
        # As text, psycopg escapes every quote of every element: 57 µs a row of an outbox insert, against 1.3 in binary.
        connection.driver_connection.adapters.register_dumper(list, ListBinaryDumper)

    return engine


class Tx:
    """One transaction: statements, and the events that commit with it."""

    def __init__(self, service: str, connection: AsyncConnection) -> None:
        self.conn = connection
        self.service = service
        self._rows: list[outbox.OutboxRow] = []
        self._after: list[Callable[[], None]] = []

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Run a statement in this transaction."""
        return await self.conn.execute(statement, parameters)

    def emit(
        self,
        data: Model,
        *,
        account: str,
        entity: str,
        actor: str = "system",
        sequence: int = 0,
        time: datetime | None = None,
        cause: Envelope | None = None,
        id: str | None = None,  # noqa: A002  (it is the event's id)
    ) -> Envelope:
        """Publish an event if, and only if, this transaction commits.

        Events leave in the order in which they were emitted. Lock the entity's row first: then the order of commits
        is the order of events. Raises as outbox.outgoing does.
        """
        envelope, row = outbox.outgoing(
            self.service,
            data,
            account=account,
            entity=entity,
            actor=actor,
            sequence=sequence,
            time=time,
            cause=cause,
            id=id,
        )
        self._rows.append(row)
        return envelope

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have `call` called once this transaction has committed, never if it does not. It must not raise."""
        self._after.append(call)

    def committed(self) -> None:
        """The database's word that the commit is done."""
        for call in self._after:
            call()

    @property
    def emitted(self) -> int:
        """How many events wait for the commit."""
        return len(self._rows)

    async def flush(self) -> set[int]:
        """Write the waiting events into the outbox; answers their partitions."""
        if not self._rows:
            return set()
        rows, self._rows = self._rows, []
        await outbox.insert(self.conn, rows)
        return {row.p for row in rows}


class Database:
    """The database of one service. ``on_commit`` is told the partitions of the events that just committed."""

    def __init__(self, engine: AsyncEngine, service: str, on_commit: Callable[[set[int]], None] | None = None) -> None:
        self.engine = engine
        self.service = service
        self.on_commit = on_commit

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """A transaction; commits at the end of the block, rolls back if it raises."""
        async with self.engine.connect() as connection:
            async with connection.begin():
                tx = Tx(self.service, connection)
                yield tx
                partitions = await tx.flush()
                crash_point("transaction.before_commit")
            crash_point("transaction.after_commit")
        if partitions and self.on_commit:
            self.on_commit(partitions)
        tx.committed()

    async def close(self) -> None:
        """Give back every connection."""
        await self.engine.dispose()


_TRANSIENT_SQLSTATES = ("08", "40", "53", "55P03", "57")
"""Connection, serialisation and deadlock, resources, lock time-out, shutdown and cancellation."""


def is_transient(error: BaseException) -> bool:
    """Whether trying the same again can help: the database or the network was away, or transactions met."""
    if isinstance(error, sqlalchemy.exc.TimeoutError | TimeoutError | OSError | NatsError):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        if error.connection_invalidated:
            return True
        cause = error.orig
        state = getattr(cause, "sqlstate", None)
        if state is None:
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return str(state).startswith(_TRANSIENT_SQLSTATES) or state == "25P03"
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
