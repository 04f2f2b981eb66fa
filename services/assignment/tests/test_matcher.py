"""The matcher on a real database decides what the pure pool decides, whatever the batches; and it is quick."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import text

from relevo.assignment import matcher, store
from relevo.assignment.domain.inputs import (
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    Opened,
    Policy,
    PolicyEdited,
    Reopened,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.pool import Pool, decide
from relevo.assignment.domain.roster import Roster
from relevo.assignment.matcher import Matcher
from relevo.assignment.store import Note
from relevo.chassis.database import Database, Tx
from relevo.chassis.database import Pool as ConnectionPool
from relevo.chassis.outbox import ensure_days
from relevo.chassis.tenancy import Entry
from relevo.chassis.testing import template_database
from relevo.contracts.base import new_id

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = "conversation_id, version, kind, mode, actor, assignee_id, team_id, from_assignee_id, from_team_id, runners_up"


@pytest.fixture
async def database(servers):
    dsn = servers.create_database(template=template_database(servers, "relevo.assignment.migrations"))
    one = Database(ConnectionPool(dsn, service="assignment", size=4, lease_seconds=4), "assignment")
    async with one.begin() as tx:
        await ensure_days(tx)
    yield one
    await one.close()


def journal(seed: int, length: int = 400):
    """A random life of an account: more conversations than anybody can take, in three inboxes and two teams."""
    dice = random.Random(seed)
    agents, teams, inboxes = ([new_id() for _ in range(n)] for n in (6, 2, 3))
    conversations: dict[str, str] = {}
    open_ones: set[str] = set()
    for n in range(1, length + 1):
        kind = dice.choices(
            ["open", "close", "reopen", "status", "agent", "team", "assign", "capacity", "policy"],
            [30, 14, 4, 14, 6, 1, 8, 4, 1],
        )[0]
        if kind == "open":
            one = new_id()
            conversations[one] = dice.choice(inboxes)
            open_ones.add(one)
            at = T0 + timedelta(seconds=dice.randrange(1000))
            yield Opened(one, conversations[one], "web", at, n, dice.choice([None, *teams]), dice.randrange(4))
        elif kind == "close" and open_ones:
            one = dice.choice(sorted(open_ones))
            open_ones.discard(one)
            yield Closed(one, n)
        elif kind == "reopen" and len(conversations) > len(open_ones):
            one = dice.choice(sorted(set(conversations) - open_ones))
            open_ones.add(one)
            yield Reopened(one, conversations[one], "web", T0 + timedelta(seconds=n), n, None, 1)
        elif kind == "status":
            state = dice.choice(["available", "available", "available", "busy", "away", "offline"])
            yield StatusGiven(dice.choice(agents), state, T0, n)
        elif kind == "agent":
            mine = tuple(one for one in inboxes if dice.random() < 0.7)
            groups = tuple(one for one in teams if dice.random() < 0.6)
            yield AgentEdited(dice.choice(agents), f"A{n}", dice.random() < 0.9, groups, dice.choice([None, mine]), n)
        elif kind == "team":
            yield TeamEdited(dice.choice(teams), f"T{n}", dice.random() < 0.7, dice.random() < 0.1, n)
        elif kind == "assign" and conversations:
            one = dice.choice([*sorted(conversations), new_id()])
            whom, where = dice.choice([None, *agents]), dice.choice([None, *teams])
            yield Assign(one, f"agent:{agents[0]}", "manual", dice.random() < 0.7, whom, dice.random() < 0.4, where)
        elif kind == "capacity":
            yield CapacitySet(dice.choice(agents), dice.choice([None, 0, 1, 2, 5]))
        elif kind == "policy":
            strategy = dice.choice(["round_robin", "least_loaded"])
            yield PolicyEdited(
                Policy(
                    strategy,
                    dice.randrange(1, 5),
                    dice.random() < 0.5,
                    dice.random() < 0.5,
                    owner_absent=dice.choice(("anyone", "wait")),
                    version=n,
                )
            )


@pytest.mark.parametrize(("seed", "batch", "chunk"), [(1, 1, 1), (2, 7, 2), (3, 50, 3), (4, 500, 1), (5, 13, 50)])
async def test_the_same_journal_gives_the_same_decisions_in_any_batches(database, monkeypatch, seed, batch, chunk):
    monkeypatch.setattr(matcher, "FIRST_CHUNK", chunk)
    monkeypatch.setattr(matcher, "LARGEST_CHUNK", chunk)
    account = new_id()
    async with database.begin(account) as tx:
        await store.append(tx, [Note(account, given) for given in journal(seed)])
    async with database.begin(account) as tx:
        entries = await store.take(tx, account, 1000)
    taken = await Matcher(database, batch).work()
    assert taken == len(entries)
    async with database.begin(account) as tx:
        assert await store.wrong_loads(tx) == []
        stored = (
            await tx.execute(text(f"select {SHOWN}, reason from decisions order by run, journal_id, version"))
        ).all()
    pure = decide(Pool(Roster((), Policy()), {}), entries)
    assert len(pure) > 100
    by_version = {(str(row.conversation_id), row.version): row for row in stored}
    assert len(by_version) == len(pure)
    for one in pure:
        row = by_version[one.conversation_id, one.version]
        assert (row.kind, row.mode, row.actor) == (one.kind, one.mode, one.actor)
        assert [row.assignee_id and str(row.assignee_id), row.team_id and str(row.team_id)] == [
            one.assignee_id,
            one.team_id,
        ]
        assert tuple(map(str, row.runners_up)) == one.runners_up
        assert row.reason["en"] == one.reason.en


async def test_two_matchers_share_the_work_and_never_a_pool(database):
    accounts = [new_id() for _ in range(4)]
    for n, account in enumerate(accounts):
        async with database.begin(account) as tx:
            await store.append(tx, [Note(account, given) for given in journal(n, 200)])
    counts = await asyncio.gather(*(Matcher(database, 10).work() for _ in range(3)))
    async with database.begin(*accounts) as tx:
        assert await store.pending(tx) == []
        assert await store.wrong_loads(tx) == []
        twice = await tx.execute(
            text(
                "select conversation_id from decisions group by 1 having max(version) <> count(*) or min(version) <> 1"
            )
        )
        assert twice.all() == []
        total = (await tx.execute(text("select count(*) from journal"))).scalar_one()
    assert sum(counts) == total


async def test_a_row_that_commits_late_with_a_smaller_id_is_not_skipped(database):
    account = new_id()
    async with database.begin(account) as tx:
        await store.append(tx, [Note(account, CapacitySet(new_id(), 1))])
    async with database.pool.connection() as slow:
        await slow.execute(Entry.into([account]).begin(), prepare=False)
        await store.append(Tx("assignment", slow), [Note(account, CapacitySet(new_id(), 2))])
        async with database.begin(account) as quick:
            await store.append(quick, [Note(account, CapacitySet(new_id(), 3))])
        one = Matcher(database, 10)
        assert await one.work() == 2
        await slow.execute("commit")
        assert await one.work() == 1


async def test_the_database_refuses_a_load_below_zero(database):
    account = new_id()
    async with database.begin(account) as tx:
        await store.append(tx, [Note(account, CapacitySet(new_id(), 1))])
    await Matcher(database, 10).work()
    with pytest.raises(CheckViolation):
        async with database.begin(account) as tx:
            await tx.execute(text("update agents set load = -1"))
