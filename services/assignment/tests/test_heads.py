"""The next that wait in a queue: in their order, and at the price of those alone, wherever in the queue they stand."""

import json

import pytest
from sqlalchemy import text

from relevo.assignment.domain.roster import GroupKey
from relevo.assignment.store import conversations
from relevo.chassis.statements import rendered
from relevo.contracts.base import new_id

from .journals import T0

# Several at the same moment, of each rank; and a team's queue, which is another one.
_FILL = text("""
    insert into conversations_held (conversation_id, account_id, inbox_id, channel, state, version, team_id, queue_key,
        opened_at, queued_at, rank, sequence, by_hand)
    select gen_random_uuid(), cast(:account as uuid), cast(:inbox as uuid), 'web', 'queued', 1, cast(:team as uuid),
        coalesce(cast(:team as uuid), '00000000-0000-0000-0000-000000000000'), :at,
        cast(:at as timestamptz) + (n / 8) * interval '1 second', n % 4, 1, false
    from generate_series(1, :count) n
""")
WORTHS = pytest.mark.parametrize("worth", [None, 10, 3600])


@WORTHS
async def test_the_pages_of_queues_are_all_that_waits_in_order(database, worth):
    account, inbox, other, team = new_id(), new_id(), new_id(), new_id()
    wanted = {GroupKey(inbox, None, (), "web", ""): 130, GroupKey(inbox, team, (), "web", ""): 50}
    async with database.begin(account) as tx:
        for (of, its_team), count in {(inbox, None): 130, (inbox, team): 50, (other, None): 40}.items():
            await tx.execute(_FILL, {"account": account, "inbox": of, "team": its_team, "at": T0, "count": count})
        everything = await conversations.queued(tx, account)
        seen = {key: [] for key in wanted}
        for _ in range(20):
            places = {key: ones[-1].place(worth) if ones else None for key, ones in seen.items()}
            for key, more in (await conversations.heads(tx, account, places, 7, worth=worth)).items():
                assert len(more) <= 7
                seen[key] += more
    for key, count in wanted.items():
        of_it = [one for one in everything if (one.inbox_id, one.team_id) == (key.inbox_id, key.team_id)]
        assert [one.id for one in seen[key]] == [one.id for one in sorted(of_it, key=lambda one: one.place(worth))]
        assert len(seen[key]) == count


@WORTHS
async def test_the_next_ones_cost_the_same_at_the_head_and_deep_in_a_long_queue(database, monkeypatch, worth):
    account, inbox = new_id(), new_id()
    key = GroupKey(inbox, None, (), "web", "")
    async with database.begin(account) as tx:
        await tx.execute(_FILL, {"account": account, "inbox": inbox, "team": None, "at": T0, "count": 10_000})
    async with database.pool.connection() as conn:
        await conn.execute("analyze conversations_held")
    async with database.begin(account) as tx:
        deep = (await conversations.heads(tx, account, {key: None}, 5000, worth=worth))[key][-1].place(worth)
        costs = _explaining(tx, monkeypatch)
        for place in (None, deep):
            await conversations.heads(tx, account, {key: place}, 4, worth=worth)
    assert len(costs) == 2
    assert max(costs) <= 4 * 4, "of each rank the next ones, at most"


async def test_the_first_ones_are_not_sorted_out_of_all_while_nothing_is_known_of_the_table(database, monkeypatch):
    account, inbox = new_id(), new_id()
    key = GroupKey(inbox, None, (), "web", "")
    async with database.begin(account) as tx:
        await tx.execute(_FILL, {"account": account, "inbox": inbox, "team": None, "at": T0, "count": 1000})
        costs = _explaining(tx, monkeypatch)
        await conversations.heads(tx, account, {key: None}, 4, worth=None)
    assert costs == [4]


def _explaining(tx, monkeypatch) -> list[int]:
    """How many rows each statement of the transaction looks at from here on."""
    execute, costs = tx.execute, []

    async def explained(statement, parameters=None):
        sql, values = rendered(statement, parameters)
        (told,) = await (await tx.conn.execute(f"explain (analyze, format json) {sql}", values)).fetchone()
        costs.append(_rows((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]))
        return await execute(statement, parameters)

    monkeypatch.setattr(tx, "execute", explained)
    return costs


def _rows(node) -> int:
    """How many rows of conversations were looked at, also those left out."""
    own = 0
    if node.get("Relation Name") == "conversations_held":
        left_out = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = round((node["Actual Rows"] + left_out) * node["Actual Loops"])
    return own + sum(_rows(part) for part in node.get("Plans", ()))
