"""The matcher on a real database decides what the pure pool decides, whatever the batches; and it is quick."""

import asyncio
import random

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import text

from relevo.assignment import matcher
from relevo.assignment.domain.deciding import decide
from relevo.assignment.domain.inputs import AgentEdited, CapacitySet, Entry, Input, Opened, StatusGiven
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Roster
from relevo.assignment.matcher import Matcher
from relevo.assignment.store import journals, people, pools
from relevo.assignment.store.journals import Note
from relevo.chassis import tenancy
from relevo.chassis.database import Database, Tx
from relevo.contracts.base import new_id, now

from .journals import journal

SHOWN = "conversation_id, version, kind, mode, actor, assignee_id, team_id, from_assignee_id, from_team_id, runners_up"


@pytest.mark.parametrize(("seed", "batch", "chunk"), [(1, 1, 1), (2, 7, 2), (3, 50, 3), (4, 500, 1), (5, 13, 50)])
async def test_the_same_journal_gives_the_same_decisions_in_any_batches(database, monkeypatch, seed, batch, chunk):
    monkeypatch.setattr(matcher, "FIRST_CHUNK", chunk)
    monkeypatch.setattr(matcher, "LARGEST_CHUNK", chunk)
    account = new_id()
    async with database.begin(account) as tx:
        await journals.append(tx, [Note(account, given) for given in journal(seed)])
    async with database.begin(account) as tx:
        entries = await journals.take(tx, account, 1000)
    assert await Matcher(database, batch).work() == len(entries)
    await _are_decided_on(database, account, entries)


@pytest.mark.parametrize("seed", range(6, 12))
async def test_replicas_that_take_turns_know_what_the_others_did(database, seed):
    account, replicas, turns = new_id(), [Matcher(database, 500) for _ in range(3)], random.Random(seed)
    entries: list[Entry] = []
    every = list(journal(seed))
    while every:
        some = [every.pop(0) for _ in range(min(len(every), turns.randint(1, 5)))]
        async with database.begin(account) as tx:
            await journals.append(tx, [Note(account, given) for given in some])
            entries += [row for row in await journals.take(tx, account, 1000) if row.id not in {e.id for e in entries}]
        await turns.choice(replicas).work()
    await _are_decided_on(database, account, entries)


async def test_a_replica_knows_of_the_queue_that_another_one_made(database):
    account, agent, inbox = new_id(), new_id(), new_id()
    one, other = Matcher(database, 500), Matcher(database, 500)

    async def decide_on(given: Input, by: Matcher) -> None:
        async with database.begin(account) as tx:
            await journals.append(tx, [Note(account, given)])
        assert await by.work() == 1

    await decide_on(AgentEdited(agent, "Ana", active=True, team_ids=(), inbox_ids=None, sequence=1), one)
    await decide_on(StatusGiven(agent, "away", now(), 1), one)
    await decide_on(Opened(new_id(), inbox, "web", now(), 1), other)
    await decide_on(StatusGiven(agent, "available", now(), 2), one)
    async with database.begin(account) as tx:
        (given,) = await tx.execute(text("select assignee_id from decisions where kind = 'assigned'"))
    assert str(given.assignee_id) == agent


async def _are_decided_on(database: Database, account: str, entries: list[Entry]) -> None:
    """As the pure pool decides on them."""
    async with database.begin(account) as tx:
        assert await people.wrong_loads(tx) == []
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
            await journals.append(tx, [Note(account, given) for given in journal(n, 200)])
    counts = await asyncio.gather(*(Matcher(database, 10).work() for _ in range(3)))
    async with database.begin(*accounts) as tx:
        assert await journals.pending(tx) == []
        assert await people.wrong_loads(tx) == []
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
        await journals.append(tx, [Note(account, CapacitySet(new_id(), 1))])
    async with database.pool.connection() as slow:
        await slow.execute(tenancy.Entry.into([account]).begin(), prepare=False)
        await journals.append(Tx("assignment", slow), [Note(account, CapacitySet(new_id(), 2))])
        async with database.begin(account) as quick:
            await journals.append(quick, [Note(account, CapacitySet(new_id(), 3))])
        one = Matcher(database, 10)
        assert await one.work() == 2
        await slow.execute("commit")
        assert await one.work() == 1


async def test_who_notes_an_input_does_not_wait_for_the_run_that_is_deciding(database):
    account = new_id()
    async with database.begin(account) as tx:
        await journals.append(tx, [Note(account, CapacitySet(new_id(), 1))])
    async with database.begin(account) as deciding:
        await pools.lock_pool(deciding, account, wait=True)
        await pools.save_pool(deciding, account, turn=1, runs=1, governed=None)
        async with database.begin(account) as tx:
            await tx.execute(text("set local lock_timeout = '1s'"))
            await journals.append(tx, [Note(account, CapacitySet(new_id(), 2))])


async def test_the_database_refuses_a_load_below_zero(database):
    account = new_id()
    async with database.begin(account) as tx:
        await journals.append(tx, [Note(account, CapacitySet(new_id(), 1))])
    await Matcher(database, 10).work()
    with pytest.raises(CheckViolation):
        async with database.begin(account) as tx:
            await tx.execute(text("update agents set load = -1"))
