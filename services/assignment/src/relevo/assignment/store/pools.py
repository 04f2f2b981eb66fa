"""SQL of the pools: an account's policy, and who decides for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from relevo.assignment.domain.inputs import Policy
from relevo.chassis.database import Tx

_MAKE_POOLS = text("""
    insert into pools (account_id) select unnest(cast(:accounts as uuid[])) on conflict (account_id) do nothing
""")

_LOCK = """
    select cast(account_id as text) as account_id, strategy, default_capacity, busy_as_fallback, out_of_shift,
           owner_first, owner_absent, policy_version, turn, runs, tells_loads
    from pools where account_id = cast(:account as uuid) for update
"""
_LOCK_WAITING = text(_LOCK)
_LOCK_OR_SKIP = text(_LOCK + " skip locked")

_WATCH_LOADS = text("""
    update pools set tells_loads = :watched where account_id = cast(:account as uuid)
    returning cast(account_id as text) as account_id, strategy, default_capacity, busy_as_fallback, out_of_shift,
              owner_first, owner_absent, policy_version, turn, runs, tells_loads
""")

_POLICY = text("""
    select strategy, default_capacity, busy_as_fallback, out_of_shift, owner_first, owner_absent, policy_version from pools
    where account_id = cast(:account as uuid)
""")

_SAVE_POOL = text("""
    update pools set strategy = :strategy, default_capacity = :default_capacity, busy_as_fallback = :busy_as_fallback,
        out_of_shift = :out_of_shift, owner_first = :owner_first, owner_absent = :owner_absent,
        policy_version = :policy_version, turn = :turn, runs = :runs
    where account_id = cast(:account as uuid)
""")


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as locked."""

    account_id: str
    policy: Policy
    turn: int
    runs: int
    tells_loads: bool


async def make_pools(tx: Tx, accounts: Iterable[str]) -> None:
    """Make the accounts' pools that are not there yet."""
    await tx.execute(_MAKE_POOLS, {"accounts": sorted(set(accounts))})


async def lock_pool(tx: Tx, account_id: str, *, wait: bool) -> PoolRow | None:
    """Become the matcher of a pool until the transaction ends; None when another one is, or there is no such pool."""
    statement = _LOCK_WAITING if wait else _LOCK_OR_SKIP
    row = (await tx.execute(statement, {"account": account_id})).first()
    return None if row is None else PoolRow(row.account_id, _policy(row), row.turn, row.runs, row.tells_loads)


async def watch_loads(tx: Tx, account_id: str, *, watched: bool) -> PoolRow:
    """Have the loads of an account's agents told from now on, or not any more; the pool is locked then."""
    await make_pools(tx, [account_id])
    row = (await tx.execute(_WATCH_LOADS, {"account": account_id, "watched": watched})).one()
    return PoolRow(row.account_id, _policy(row), row.turn, row.runs, row.tells_loads)


async def policy(tx: Tx, account_id: str) -> Policy:
    """The account's policy; the default one before anything happened."""
    row = (await tx.execute(_POLICY, {"account": account_id})).first()
    return Policy() if row is None else _policy(row)


async def save_pool(tx: Tx, account_id: str, *, policy: Policy, turn: int, runs: int) -> None:
    """Write the locked pool."""
    await tx.execute(
        _SAVE_POOL,
        {
            "account": account_id,
            "strategy": policy.strategy,
            "default_capacity": policy.default_capacity,
            "busy_as_fallback": policy.busy_as_fallback,
            "out_of_shift": policy.out_of_shift,
            "owner_first": policy.owner_first,
            "owner_absent": policy.owner_absent,
            "policy_version": policy.version,
            "turn": turn,
            "runs": runs,
        },
    )


def _policy(row: Any) -> Policy:
    return Policy(
        row.strategy,
        row.default_capacity,
        row.busy_as_fallback,
        row.out_of_shift,
        row.owner_first,
        row.owner_absent,
        row.policy_version,
    )
