"""Things to do later: rows that a worker hands to the service when they come due.

A timer is scheduled and cancelled in the transaction of what it belongs to, and handled in one transaction with its
own removal: exactly once, and only if that transaction commits. One timer per (kind, key); scheduling it again moves it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import text

from relevo.chassis import telemetry
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Database, Tx, described, is_transient
from relevo.contracts.identity import PLATFORM

DDL_V1: Final[tuple[str, ...]] = (
    """
    create table timers (
        kind text not null,
        key text not null,
        account_id text not null,
        due_at timestamptz not null,
        payload jsonb not null default '{}',
        attempts integer not null default 0,
        retry_at timestamptz,
        primary key (kind, key)
    )
    """,
    "create index timers_due on timers ((coalesce(retry_at, due_at)))",
    "comment on column timers.retry_at is 'after a failure: when it is tried again'",
)

BATCH: Final = 200
POLL_SECONDS: Final = 1.0
_LONGEST_BACKOFF: Final = 300

log = structlog.get_logger("relevo.timers")


@dataclass(frozen=True, slots=True)
class Timer:
    """Something to schedule. `due_at` is aware; a moment in the past is due at once."""

    key: str
    due_at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)
    account_id: str = PLATFORM


@dataclass(frozen=True, slots=True)
class DueTimer:
    """A timer that came due; `due_at` is when it should have run, `attempts` how often it failed before."""

    kind: str
    key: str
    account_id: str
    due_at: datetime
    payload: dict[str, Any]
    attempts: int


Handler = Callable[[Sequence[DueTimer], Tx], Awaitable[None]]


class _Runtime(Protocol):
    @property
    def database(self) -> Database: ...
    @property
    def stopping(self) -> asyncio.Event: ...


_SCHEDULE = text("""
    insert into timers (kind, key, account_id, due_at, payload)
    select :kind, * from unnest(
        cast(:keys as text[]), cast(:accounts as text[]), cast(:dues as timestamptz[]), cast(:payloads as jsonb[]))
    on conflict (kind, key) do update
        set account_id = excluded.account_id, due_at = excluded.due_at, payload = excluded.payload,
            attempts = 0, retry_at = null
""")
_SCHEDULE_NEW = text("""
    insert into timers (kind, key, account_id, due_at, payload)
    select :kind, * from unnest(
        cast(:keys as text[]), cast(:accounts as text[]), cast(:dues as timestamptz[]), cast(:payloads as jsonb[]))
    on conflict (kind, key) do nothing
""")
_CANCEL = text("delete from timers where kind = :kind and key = any(cast(:keys as text[]))")
_TAKE = text("""
    delete from timers using (
        select kind, key from timers
        where coalesce(retry_at, due_at) <= now() and kind = any(cast(:kinds as text[]))
        order by coalesce(retry_at, due_at) limit :batch for update skip locked
    ) due
    where timers.kind = due.kind and timers.key = due.key
    returning timers.kind, timers.key, account_id, due_at, payload, attempts
""")
_POSTPONE = text("""
    update timers
    set attempts = attempts + 1,
        retry_at = now() + make_interval(secs => least(power(2, least(attempts, 20)), :longest))
    where kind = :kind and key = :key
    returning attempts
""")
_NEXT = text("""
    select extract(epoch from min(coalesce(retry_at, due_at)) - now()) from timers
    where kind = any(cast(:kinds as text[]))
""")


async def schedule(
    tx: Tx,
    kind: str,
    key: str,
    due_at: datetime,
    payload: Mapping[str, Any] | None = None,
    *,
    account_id: str = PLATFORM,
) -> None:
    """Have `kind`'s handler called at `due_at`; moves the timer when there is one already."""
    await schedule_all(tx, kind, [Timer(key, due_at, payload or {}, account_id)])


async def schedule_all(tx: Tx, kind: str, timers: Iterable[Timer], *, move: bool = True) -> None:
    """Schedule many timers of a kind in one statement; of two with the same key the later one counts.

    With ``move`` False those that are set already stay as they are.

    Raises ValueError for a time without an offset.
    """
    rows = [timer for _, timer in sorted({timer.key: timer for timer in timers}.items())]
    if not rows:
        return
    if naive := [row.key for row in rows if row.due_at.tzinfo is None]:
        raise ValueError(f"timer {kind}/{naive[0]}: due_at has no time zone")
    await tx.execute(
        _SCHEDULE if move else _SCHEDULE_NEW,
        {
            "kind": kind,
            "keys": [row.key for row in rows],
            "accounts": [row.account_id for row in rows],
            "dues": [row.due_at for row in rows],
            "payloads": [json.dumps(row.payload) for row in rows],
        },
    )


async def cancel(tx: Tx, kind: str, *keys: str) -> None:
    """Drop timers; a key without one is no error."""
    if keys:
        await tx.execute(_CANCEL, {"kind": kind, "keys": sorted(keys)})


async def run(runtime: _Runtime, handlers: Mapping[str, Handler]) -> None:
    """The worker: hand over what is due until the process stops. Any number of replicas may run it."""
    failures = 0
    while handlers and not runtime.stopping.is_set():
        wait = 0.0
        try:
            if await run_due(runtime.database, handlers) < BATCH:
                wait = await _until_next(runtime.database, handlers)
            failures = 0
        except Exception as error:  # noqa: BLE001
            # Only the database can fail here, and it comes back: the handlers' own errors are caught one by one.
            failures += 1
            wait = min(0.1 * 2**failures, 5.0)
            log.warning("timers_waiting", error=described(error), retry_seconds=wait)
        if wait:
            await _sleep(runtime.stopping, wait)


async def run_due(database: Database, handlers: Mapping[str, Handler], batch: int = BATCH) -> int:
    """Handle what is due now, at most `batch` timers; answers how many were taken.

    A handler that fails does so alone: what is due is then taken one by one, and the timer that fails is tried again
    later, waiting twice as long each time, at most five minutes. Raises only what a lost database raises.
    """
    try:
        return await _take(database, handlers, batch)
    except Exception as error:
        if _passing(error):
            raise
    return await _one_by_one(database, handlers, batch)


async def _take(database: Database, handlers: Mapping[str, Handler], batch: int) -> int:
    async with database.begin(door="timers") as tx:
        rows = (await tx.execute(_TAKE, {"kinds": list(handlers), "batch": batch})).mappings().all()
        by_kind: dict[str, list[DueTimer]] = {}
        for row in sorted(rows, key=lambda row: row["due_at"]):
            by_kind.setdefault(row["kind"], []).append(DueTimer(**row))
        if rows:
            await tx.enter(*{row["account_id"] for row in rows})
        for kind, due in by_kind.items():
            try:
                await handlers[kind](due, tx)
            except Exception as error:
                raise _Failed(due[0]) from error
        if rows:
            crash_point("timers.before_commit")
    if rows:
        crash_point("timers.after_commit")
    for kind, due in by_kind.items():
        telemetry.TIMERS.labels(database.service, kind, "handled").inc(len(due))
    return len(rows)


class _Failed(Exception):
    """A handler raised; `timer` is the first of those it was handed."""

    def __init__(self, timer: DueTimer) -> None:
        super().__init__(f"{timer.kind}/{timer.key}")
        self.timer = timer


def _passing(error: Exception) -> bool:
    # What is no handler's fault is the database's, or ours: all of it is tried again as it is.
    return not isinstance(error, _Failed) or (error.__cause__ is not None and is_transient(error.__cause__))


async def _one_by_one(database: Database, handlers: Mapping[str, Handler], batch: int) -> int:
    for taken in range(batch):
        try:
            if await _take(database, handlers, 1) == 0:
                return taken
        except _Failed as failed:
            if _passing(failed):
                raise
            await _postpone(database, failed)
    return batch


async def _postpone(database: Database, failed: _Failed) -> None:
    timer = failed.timer
    async with database.begin(timer.account_id) as tx:
        await tx.execute(_POSTPONE, {"kind": timer.kind, "key": timer.key, "longest": _LONGEST_BACKOFF})
    telemetry.TIMERS.labels(database.service, timer.kind, "failed").inc()
    log.error(
        "timer_failed",
        kind=timer.kind,
        timer=timer.key,
        account=timer.account_id,
        attempts=timer.attempts + 1,
        exc_info=failed.__cause__,
    )


async def _until_next(database: Database, handlers: Mapping[str, Handler]) -> float:
    async with database.begin(door="timers") as tx:
        seconds = (await tx.execute(_NEXT, {"kinds": list(handlers)})).scalar()
    return POLL_SECONDS if seconds is None else min(max(float(seconds), 0.02), POLL_SECONDS)


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
