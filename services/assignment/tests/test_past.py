"""The queue and what agents had, as of past moments: what it was then, in whatever batches it was decided."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.assignment.domain.deciding import take
from relevo.assignment.domain.inputs import Opened, Policy
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Roster
from relevo.assignment.domain.stays import LEVELS, level_of
from relevo.assignment.matcher import Matcher
from relevo.assignment.store import conversations, journals, past
from relevo.assignment.store.journals import Note
from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import ROLES
from relevo.kernel.access import Viewer

from .journals import journal


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=365 * 200)))
def test_a_level_is_the_smallest_that_the_length_fits_into(length):
    level = level_of(length)
    assert length <= timedelta(seconds=2**level)
    assert level == 0 or length > timedelta(seconds=2 ** (level - 1))
    assert level < LEVELS


def viewer(account):
    role = ROLES["administrator"]
    return Viewer(account, None, frozenset(role.permissions), role.scope, inbox_ids=None)


@pytest.mark.parametrize(("seed", "batch"), [(1, 1), (2, 13)])
async def test_as_of_any_moment_it_is_what_it_was_then(database, seed, batch):
    account = new_id()
    life = list(journal(seed, 90))
    facts = [
        {"conversation_id": one.conversation_id, "account_id": account, "inbox_id": one.inbox_id, "number": n}
        | {"participant_ids": [], "owner_id": None, "sequence": 1}
        for n, one in enumerate(life)
        if isinstance(one, Opened)
    ]
    before = now()
    for one in life:  # each in a moment of its own
        async with database.begin(account) as tx:
            await journals.append(tx, [Note(account, one)])
    async with database.begin(account) as tx:
        await conversations.save_facts(tx, facts)
        entries = await journals.take(tx, account, 1000)
    await Matcher(database, batch).work()
    pool = Pool(Roster((), Policy()), {})
    seen = 0
    for entry in entries:
        take(pool, entry)
        agents = pool.roster.agents
        waited = sorted((one for one in pool.held.values() if one.state == "queued"), key=pool.place)
        async with database.begin(account) as tx:
            shown = await past.queue(tx, viewer(account), entry.at, after=None, limit=1000)
            assert [(row["conversation_id"], row["position"]) for row in shown] == [
                (one.id, n) for n, one in enumerate(waited, 1)
            ]
            assert [(row["team_id"], row["rank"], row["queued_at"]) for row in shown] == [
                (one.team_id, one.rank, one.queued_at) for one in waited
            ]
            for agent_id in list(agents)[seen % 2 :: 2]:
                had = sorted(
                    one.id for one in pool.held.values() if (one.state, one.assignee_id) == ("assigned", agent_id)
                )
                rows = await past.held(tx, viewer(account), agent_id, entry.at, after=None, limit=1000)
                assert [row["conversation_id"] for row in rows] == had
                assert await past.load(tx, account, agent_id, entry.at) == len(had) == agents[agent_id].load
                if batch == 1:
                    then = await past.agent(tx, account, agent_id, entry.at)
                    assert then["at"] <= entry.at
                    assert (then["state"], then["capacity"]) == (agents[agent_id].state, agents[agent_id].capacity)
        seen += len(waited)
    assert seen > 30
    async with database.begin(account) as tx:
        assert await past.queue(tx, viewer(account), before, after=None, limit=10) == []


async def test_over_http_it_is_what_one_saw_and_only_for_who_may(service, world, settled):
    boss = await world.hire("Boss", "administrator", None)
    ana = await world.hire("Ana", state="away")
    await settled()
    kept = []

    async def look():
        await settled()
        queue = (await service.http.get("/queue", headers=world.as_(boss))).json()["items"]
        loads = (await service.http.get("/routing/agents", headers=world.as_(boss))).json()["items"]
        kept.append((now().isoformat(), queue, next(one for one in loads if one["agent_id"] == ana)))

    await service.http.put(f"/routing/agents/{ana}/capacity", json={"capacity": 2}, headers=world.as_(boss))
    ones = []
    for priority in (None, "urgent", "low", None):
        ones.append(await world.open(priority=priority))
        await look()
    await world.status(ana, "available")
    await look()
    await world.resolve(ones[1])
    await look()
    await service.http.put(f"/routing/agents/{ana}/capacity", json={"capacity": 3}, headers=world.as_(boss))
    await look()

    async def ask(path, who, **params):
        return await service.http.get(path, params=params, headers=world.as_(who))

    for at, queue, agent in kept:
        then = (await ask("/queue/as-of", boss, at=at, limit=3)).json()
        rest = await ask("/queue/as-of", boss, at=at, limit=3, cursor=then["next"]) if then["next"] else None
        items = then["items"] + (rest.json()["items"] if rest else [])
        for one, was in zip(items, queue, strict=True):
            assert one["waiting_seconds"] == pytest.approx(was["waiting_seconds"], abs=30)
            assert {k: v for k, v in one.items() if k != "waiting_seconds"} == {
                k: was[k] for k in one if k != "waiting_seconds"
            }
        found = (await ask(f"/routing/agents/{ana}/as-of", boss, at=at, limit=1)).json()
        assert [found[name] for name in ("state", "load", "capacity")] == [
            agent[name] for name in ("state", "load", "capacity")
        ]
        assert len(found["items"]) == min(agent["load"], 1)
    early = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    late = (now() + timedelta(hours=1)).isoformat()
    for path in ("/queue/as-of", f"/routing/agents/{ana}/as-of"):
        unknown = await ask(path, boss, at=early)
        assert (unknown.status_code, unknown.json()["code"]) == (409, "beyond_the_record")
        assert unknown.json()["known_since"]
        assert (await ask(path, boss, at=late)).status_code == 422
    assert (await ask(f"/routing/agents/{ana}/as-of", ana, at=kept[0][0])).status_code == 403
    assert (await ask(f"/routing/agents/{new_id()}/as-of", boss, at=kept[0][0])).status_code == 404
    cid = await world.hire("Cid", state=None, inbox_ids=(new_id(),))
    await settled()
    assert (await ask("/queue/as-of", cid, at=kept[3][0])).json()["items"] == []
