"""Statuses as of a past moment, from the history of intervals."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx

# Of each agent one interval, by the history's own index: the last that had begun.
_AS_OF = text("""
    select cast(h.agent_id as text) as agent_id, h.state, h.cause, h.actor, h.from_at, h.to_at,
           cast(h.label as text) as label_id, h.in_shift
    from agent_status a cross join lateral (
        select * from status_history s
        where s.agent_id = a.agent_id and s.account_id = cast(:account as uuid) and s.from_at <= :at
        order by s.from_at desc limit 1
    ) h
    where a.account_id = cast(:account as uuid) and a.agent_id > cast(:after as uuid)
    order by a.agent_id limit :limit
""")


async def statuses(tx: Tx, account_id: str, at: datetime, *, after: str, limit: int) -> list[Mapping[str, Any]]:
    """The intervals of an account that held a moment, by agent: also of who has left since, of nobody twice."""
    given = {"account": account_id, "at": at, "after": after, "limit": limit}
    return [dict(row) for row in (await tx.execute(_AS_OF, given)).mappings()]
