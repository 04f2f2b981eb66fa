"""Timers on a real PostgreSQL: at their time, once, and none lost to a handler that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import text

from relevo.chassis import timers
from relevo.chassis.database import Database, Pool
from relevo.contracts.base import now

pytestmark = pytest.mark.anyio


@pytest.fixture
def dsn(servers) -> str:
    dsn = servers.create_database()
    with psycopg.connect(dsn) as connection:
        for ddl in timers.DDL_V1:
            connection.execute(ddl)
        connection.execute("create table done (kind text, key text)")
    return dsn


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[Database]:
    db = Database(Pool(dsn, service="test", size=4, lease_seconds=4), "test")
    try:
        yield db
    finally:
        await db.close()


async def note(due, tx) -> None:
    for timer in due:
        await tx.execute(text("insert into done values (:kind, :key)"), {"kind": timer.kind, "key": timer.key})


async def done(db: Database) -> list[str]:
    async with db.begin() as tx:
        return list((await tx.execute(text("select key from done order by key"))).scalars())


async def left(db: Database) -> list:
    async with db.begin() as tx:
        return (
            await tx.execute(text("select key, attempts, retry_at > now() as later from timers order by key"))
        ).all()


async def test_only_what_is_due_and_only_the_last_schedule_counts(dsn):
    past, future = now() - timedelta(minutes=1), now() + timedelta(hours=1)
    async with database(dsn) as db:
        async with db.begin() as tx:
            await timers.schedule(tx, "a", "due", past, {"n": 1})
            await timers.schedule(tx, "a", "later", future)
            await timers.schedule(tx, "a", "moved", past)
            await timers.schedule(tx, "a", "moved", future)
            await timers.schedule(tx, "a", "cancelled", past)
            await timers.cancel(tx, "a", "cancelled", "unknown")
            await timers.schedule(tx, "other", "foreign", past)
        assert await timers.run_due(db, {"a": note}) == 1
        assert await done(db) == ["due"]
        assert [row.key for row in await left(db)] == ["foreign", "later", "moved"]


async def test_a_handler_sees_what_was_scheduled(dsn):
    at = now() - timedelta(seconds=5)
    seen = []

    async def keep(due, tx) -> None:
        seen.extend(due)

    async with database(dsn) as db:
        async with db.begin() as tx:
            await timers.schedule(tx, "a", "k", at, {"n": [1]}, account_id="acc")
        await timers.run_due(db, {"a": keep})
    assert seen == [timers.DueTimer("a", "k", "acc", at, {"n": [1]}, 0)]


async def test_one_that_fails_fails_alone_and_is_tried_again(dsn):
    async with database(dsn) as db:
        async with db.begin() as tx:
            at = now() - timedelta(minutes=1)
            await timers.schedule_all(tx, "a", [timers.Timer(key, at) for key in ("1", "bad", "2", "3")])

        async def fussy(due, tx) -> None:
            await note(due, tx)
            if any(timer.key == "bad" and timer.attempts == 0 for timer in due):
                raise ValueError("cannot be handled")

        await timers.run_due(db, {"a": fussy})
        assert await done(db) == ["1", "2", "3"]
        assert [tuple(row) for row in await left(db)] == [("bad", 1, True)]
        async with db.begin() as tx:
            await tx.execute(text("update timers set retry_at = now()"))
        await timers.run_due(db, {"a": fussy})
        assert await done(db) == ["1", "2", "3", "bad"]
        assert await left(db) == []


async def test_a_handler_may_schedule_its_own_timer_again(dsn):
    async def again(due, tx) -> None:
        for timer in due:
            await timers.schedule(tx, timer.kind, timer.key, now() + timedelta(hours=1))

    async with database(dsn) as db:
        async with db.begin() as tx:
            await timers.schedule(tx, "a", "k", now())
        await timers.run_due(db, {"a": again})
        assert [row.key for row in await left(db)] == ["k"]


async def test_several_workers_handle_each_once_and_stop_when_asked(dsn):
    async with database(dsn) as db:
        async with db.begin() as tx:
            at = now() - timedelta(minutes=1)
            await timers.schedule_all(tx, "a", [timers.Timer(f"{n:04}", at) for n in range(700)])
        runtime = SimpleNamespace(database=db, stopping=asyncio.Event())
        finished = asyncio.Event()
        count = 0

        async def counting(due, tx) -> None:
            nonlocal count
            await note(due, tx)
            count += len(due)
            if count >= 701:
                finished.set()

        workers = [asyncio.create_task(timers.run(runtime, {"a": counting})) for _ in range(3)]
        async with db.begin() as tx:  # while they run, and in the near future
            await timers.schedule(tx, "a", "soon", now() + timedelta(milliseconds=300))
        await asyncio.wait_for(finished.wait(), 20)
        runtime.stopping.set()
        await asyncio.wait_for(asyncio.gather(*workers), 30)
        assert await done(db) == [*(f"{n:04}" for n in range(700)), "soon"]


async def test_a_time_without_a_zone_is_refused(dsn):
    async with database(dsn) as db, db.begin() as tx:
        with pytest.raises(ValueError, match="no time zone"):
            await timers.schedule(tx, "a", "k", datetime(2030, 1, 1))  # noqa: DTZ001
