"""The names of people, teams and keys, also of those who are gone."""

from collections.abc import Iterable

from sqlalchemy import text

from relevo.chassis.database import Tx

_NAMES = text(
    """
    select id, state ->> 'name' as name from directory
    where kind = any(array['agent', 'team', 'key']) and id = any(cast(:ids as text[])) and account_id = :account
    """
)


async def find(tx: Tx, account_id: str, ids: Iterable[str]) -> dict[str, str]:
    """Names by id."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    rows = await tx.execute(_NAMES, {"account": account_id, "ids": wanted})
    return {row.id: row.name for row in rows}
