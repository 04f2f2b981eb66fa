"""SQL of the pools: an account's policy, and who decides for it."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from relevo.assignment.domain.policy import Policy, read, written
from relevo.chassis.database import Tx

# An insert that meets a row which somebody is changing waits to see what becomes of it: whoever notes an input would wait
# for the run that is deciding.
_MAKE_POOLS = text("""
    insert into pools (account_id)
    select a.id from unnest(cast(:accounts as uuid[])) as a (id)
    where not exists (select 1 from pools p where p.account_id = a.id)
    on conflict (account_id) do nothing
""")

_POOL = "cast(account_id as text) as account_id, policy, turn, runs, tells_loads"
_LOCK = f"select {_POOL} from pools where account_id = cast(:account as uuid) for update"
_LOCK_WAITING = text(_LOCK)
_LOCK_OR_SKIP = text(_LOCK + " skip locked")

_WATCH_LOADS = text(f"""
    update pools set tells_loads = :watched where account_id = cast(:account as uuid) returning {_POOL}
""")

_POLICY = text("select policy from pools where account_id = cast(:account as uuid)")

_SAVE_POOL = text("""
    update pools set turn = :turn, runs = :runs where account_id = cast(:account as uuid)
""")
_SAVE_GOVERNED = text("""
    update pools set turn = :turn, runs = :runs, policy = cast(:policy as jsonb), watches_answers = :watches
    where account_id = cast(:account as uuid)
""")

_WATCHED = text("""
    select cast(account_id as text) as account_id, watches_answers,
           coalesce(jsonb_array_length(policy -> 'rules'), 0) > 0 as has_rules
    from pools where account_id = any(cast(:accounts as uuid[]))
""")


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as locked."""

    account_id: str
    policy: Policy
    turn: int
    runs: int
    tells_loads: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """The accounts whose policy looks at since when customers wait, and those whose policy has rules."""

    answers: frozenset[str]
    rules: frozenset[str]


async def make_pools(tx: Tx, accounts: Iterable[str]) -> None:
    """Make the accounts' pools that are not there yet."""
    await tx.execute(_MAKE_POOLS, {"accounts": sorted(set(accounts))})


async def lock_pool(tx: Tx, account_id: str, *, wait: bool) -> PoolRow | None:
    """Become the matcher of a pool until the transaction ends; None when another one is, or there is no such pool."""
    statement = _LOCK_WAITING if wait else _LOCK_OR_SKIP
    row = (await tx.execute(statement, {"account": account_id})).first()
    return None if row is None else PoolRow(row.account_id, read(row.policy), row.turn, row.runs, row.tells_loads)


async def watch_loads(tx: Tx, account_id: str, *, watched: bool) -> PoolRow:
    """Have the loads of an account's agents told from now on, or not any more; the pool is locked then."""
    await make_pools(tx, [account_id])
    row = (await tx.execute(_WATCH_LOADS, {"account": account_id, "watched": watched})).one()
    return PoolRow(row.account_id, read(row.policy), row.turn, row.runs, row.tells_loads)


async def policy(tx: Tx, account_id: str) -> Policy:
    """The account's policy; the default one before anything happened."""
    row = (await tx.execute(_POLICY, {"account": account_id})).first()
    return Policy() if row is None else read(row.policy)


async def watched(tx: Tx, accounts: Collection[str]) -> Watched:
    """What the policies of these accounts look at."""
    if not accounts:
        return Watched(frozenset(), frozenset())
    rows = (await tx.execute(_WATCHED, {"accounts": sorted(accounts)})).all()
    return Watched(
        frozenset(row.account_id for row in rows if row.watches_answers),
        frozenset(row.account_id for row in rows if row.has_rules),
    )


async def save_pool(tx: Tx, account_id: str, *, turn: int, runs: int, governed: Policy | None) -> None:
    """Write the locked pool; `governed`: its policy, where that is another one."""
    given: dict[str, Any] = {"account": account_id, "turn": turn, "runs": runs}
    if governed is None:
        await tx.execute(_SAVE_POOL, given)
    else:
        more = {"policy": json.dumps(written(governed)), "watches": governed.watches_answers}
        await tx.execute(_SAVE_GOVERNED, given | more)
