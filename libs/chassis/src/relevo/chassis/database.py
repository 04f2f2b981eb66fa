"""The service's own database: a few connections, and transactions that carry events with them."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
from nats.errors import Error as NatsError
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from psycopg.types.array import ListBinaryDumper
from psycopg.types.string import TextLoader
from pydantic import ValidationError
from sqlalchemy import Executable

from relevo.chassis import outbox
from relevo.chassis.crash import crash_point
from relevo.chassis.statements import Rows, rendered
from relevo.chassis.tenancy import ENTER, Entry
from relevo.contracts.base import Model
from relevo.contracts.envelope import Envelope

LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "30s"
_WAIT_SECONDS = 10.0

Connection = psycopg.AsyncConnection[Any]


class Pool:
    """At most ``size`` connections, made when they are needed and kept while they are well.

    By hand, since a pool that mends itself in the background waits longer and longer for a server that is away; here
    the first who asks after it has come back is served. Sessions can stall nobody: lock, statement and
    idle-in-transaction time-outs are set, the last one to the lease, so that a stopped process holds no row locks
    against the replica that takes over.
    """

    def __init__(self, url: str, *, service: str, size: int, lease_seconds: float) -> None:
        self._url = url
        self._options = {
            "options": (
                f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout={STATEMENT_TIMEOUT} "
                f"-c idle_in_transaction_session_timeout={int(lease_seconds * 1000)} -c timezone=UTC -c jit=off "
                # Planning over the days of the outbox costs more than executing: once a statement and connection.
                "-c plan_cache_mode=force_generic_plan"
            ),
            "application_name": f"relevo-{service}",
            "connect_timeout": 5,
        }
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit. Raises TimeoutError when all are busy for ten seconds, psycopg.Error."""
        async with asyncio.timeout(_WAIT_SECONDS):
            await self._places.acquire()
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                yield connection
            finally:
                await self._take_back(connection)
        finally:
            self._places.release()

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            row_factory=namedtuple_row,
            **self._options,  # type: ignore[arg-type]
        )
        # As text, psycopg escapes every quote of every element: 57 µs a row of an outbox insert, against 1.3 in binary.
        connection.adapters.register_dumper(list, ListBinaryDumper)
        # Ids are text everywhere but in the tables.
        connection.adapters.register_loader("uuid", TextLoader)
        return connection

    async def _take_back(self, connection: Connection) -> None:
        if not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE:
            self._idle.append(connection)
            return
        if connection.broken:
            await self.close()  # the server was away: the others are as broken
        await connection.close()

    async def close(self) -> None:
        """Close what is idle; the pool goes on making connections when asked."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(psycopg.Error, OSError):
                await connection.close()


_OPEN = "select set_config('relevo.door', %s, true) as d, set_config('relevo.sought', %s, true) as s"


class Tx:
    """One transaction: statements, and the events that commit with it."""

    def __init__(self, service: str, connection: Connection) -> None:
        self.conn = connection
        self.service = service
        self._rows: list[outbox.OutboxRow] = []
        self._after: list[Callable[[], None]] = []

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement in this transaction. Raises psycopg.Error."""
        return await run(self.conn, statement, parameters)

    async def enter(self, *accounts: str) -> None:
        """From here on see and write the rows of these accounts, and of no others; a door that was open is shut."""
        await self.conn.execute(ENTER, Entry.into(accounts).parameters())

    @asynccontextmanager
    async def through(self, door: str, sought: str = "") -> AsyncIterator[None]:
        """See, within the block, also what a door opens (`tenancy.Door`), to all or to whoever names what is ``sought``."""
        await self.conn.execute(_OPEN, (door, sought))
        yield
        await self.conn.execute(_OPEN, ("", ""))

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
        actor_version: int = 0,
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
            actor_version=actor_version,
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
        await outbox.insert(self, rows)
        return {row.p for row in rows}


async def run(connection: Connection, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
    """Run a statement and read everything that it gives. Raises psycopg.Error."""
    sql, values = rendered(statement, parameters)
    return await Rows.of(await connection.execute(sql, values))


class Database:
    """The database of one service. ``on_commit`` is told the partitions of the events that just committed."""

    def __init__(
        self,
        pool: Pool,
        service: str,
        on_commit: Callable[[set[int]], None] | None = None,
        accounts: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """``accounts`` tells, when a transaction begins, whose rows it is about unless it says so itself."""
        self.pool = pool
        self.service = service
        self.on_commit = on_commit
        self._accounts = accounts

    def on_behalf_of(self, accounts: Callable[[], Collection[str]]) -> "Database":
        """The same database, for work whose accounts are told by `accounts`."""
        return Database(self.pool, self.service, self.on_commit, accounts)

    @asynccontextmanager
    async def begin(self, *accounts: str, door: str = "", sought: str = "") -> AsyncIterator[Tx]:
        """A transaction; commits at the end of the block, rolls back if it raises.

        It sees and writes the rows of these accounts only (of none, when none is told), and what a ``door`` opens, to
        all or to whoever names what is ``sought`` (`relevo.chassis.tenancy`).
        """
        opening = Entry.into(accounts or self._accounts(), door, sought).begin()
        async with self.pool.connection() as connection:
            # Several commands in one: the simple protocol, hence never prepared.
            await connection.execute(opening, prepare=False)
            tx = Tx(self.service, connection)
            try:
                yield tx
                partitions = await tx.flush()
                crash_point("transaction.before_commit")
                await connection.execute("commit")
            except BaseException:
                with suppress(psycopg.Error, OSError):
                    await connection.execute("rollback")
                raise
            crash_point("transaction.after_commit")
        if partitions and self.on_commit:
            self.on_commit(partitions)
        tx.committed()

    async def single(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        accounts: Collection[str] = (),
        door: str = "",
        sought: str = "",
    ) -> Rows:
        """One statement that is a transaction of its own: a single round trip. Raises psycopg.Error.

        It sees the rows of the accounts that are named here, and what the door opens.
        """
        async with self.pool.connection() as connection:
            if not accounts and not door:
                return await run(connection, statement, parameters)
            sql, values = rendered(statement, parameters)
            # Sent together: one transaction, since nothing in between ends it.
            async with connection.pipeline():
                await connection.execute(ENTER, Entry.into(accounts, door, sought).parameters())
                cursor = await connection.execute(sql, values)
            return await Rows.of(cursor)

    async def close(self) -> None:
        """Give back every connection."""
        await self.pool.close()


def described(error: BaseException) -> str:
    """An error for logs and records: what went wrong, never the rows or bodies that it went wrong with."""
    if isinstance(error, psycopg.Error):
        told = error.diag.message_primary or str(error).partition("\n")[0]
        return f"{type(error).__name__}: {told}"[:500]
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        return f"ValidationError: {told}"[:500]
    told = str(error).strip()
    if not told and isinstance(error, TimeoutError):
        told = f"no answer in time{_waited_for(error)}"
    return f"{type(error).__name__}: {told}"[:500]


def _waited_for(error: BaseException) -> str:
    """Whose answer somebody waited for: where what was cut off, the time-out's cause, was innermost."""
    found = ""
    one: BaseException | None = error
    while one is not None:
        for frame, _ in traceback.walk_tb(one.__traceback__):
            module = str(frame.f_globals.get("__name__", ""))
            if module == __name__ or module.startswith("psycopg"):
                found = " from the database"
            elif module == "relevo.chassis.bus" or module.startswith("nats."):
                found = " from the broker"
        one = one.__cause__ or one.__context__
    return found


_TRANSIENT_SQLSTATES = ("08", "40", "53", "55P03", "57")
"""Connection, serialisation and deadlock, resources, lock time-out, shutdown and cancellation."""


def is_transient(error: BaseException) -> bool:
    """Whether trying the same again can help: the database or the network was away, or transactions met."""
    if isinstance(error, TimeoutError | OSError | NatsError):
        return True
    if isinstance(error, psycopg.Error):
        if error.sqlstate is None:
            return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return error.sqlstate.startswith(_TRANSIENT_SQLSTATES) or error.sqlstate == "25P03"
    return False
