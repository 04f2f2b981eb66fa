"""Commands that were handled, so that none is twice."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Key

_REMEMBER = text(
    """
    insert into handled_commands (account_id, id)
    select k.account_id, k.id from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    order by k.account_id, k.id
    on conflict do nothing
    returning cast(account_id as text) as account, cast(id as text) as id
    """
)

_FORGET = text("delete from handled_commands where handled_at < :before")


async def remember(tx: Tx, keys: Iterable[Key]) -> set[Key]:
    """Take note of commands; answers those that were not known. A command that is being handled elsewhere is waited for."""
    wanted = set(keys)
    if not wanted:
        return set()
    rows = await tx.execute(_REMEMBER, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row.account, row.id) for row in rows}


async def forget(tx: Tx, before: datetime) -> None:
    """Drop the memory of commands older than the bus keeps them."""
    await tx.execute(_FORGET, {"before": before})
