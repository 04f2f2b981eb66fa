"""SQL of how long a conversation will still wait: its place, and how fast its queue was served lately."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from relevo.assignment.domain import waits
from relevo.assignment.domain.waits import Expected
from relevo.assignment.store import places, pools
from relevo.chassis.database import Tx

# Among those of the conversation's team, or of none: who takes from one queue of a team takes from all of it. All that wait
# are read once, however many are asked for.
_PLACES = """
    select cast(conversation_id as text) as conversation_id, place from (
        select conversation_id, row_number() over (partition by team_id order by {order}) as place from conversations_held q
        where q.account_id = cast(:account as uuid) and q.state = 'queued'
    ) waiting where conversation_id = any(cast(:ids as uuid[]))
"""

# What came straight to somebody says how many came, not how fast a queue is served. The window's last ones are enough.
_GIVEN = text("""
    select created_at from (
        select conversation_id, version, created_at, kind, mode, team_id from decisions
        where account_id = cast(:account as uuid) and created_at >= :since
        order by created_at desc limit 5000) lately
    where kind = 'assigned' and mode = 'automatic' and team_id is not distinct from cast(:team as uuid)
      and exists (select from decisions before where before.account_id = cast(:account as uuid)
                  and before.conversation_id = lately.conversation_id and before.version = lately.version - 1
                  and (before.kind = 'queued' or before.kind = 'offered' and exists (
                      select from decisions first where first.account_id = before.account_id
                        and first.conversation_id = before.conversation_id and first.version = before.version - 1
                        and first.kind in ('queued', 'offered'))))
    limit 500
""")

_AT_WORK = text("""
    select exists (
        select from agents where account_id = cast(:account as uuid) and active and state in ('available', 'busy')
          and (inbox_ids is null or cast(:inbox as uuid) = any(inbox_ids))
          and (cast(:team as uuid) is null or cast(:team as uuid) = any(team_ids)))
""")


class Queue(NamedTuple):
    """In which queue a conversation waits: that of its team, or of none; its inbox says who works on it."""

    inbox_id: str
    team_id: str | None


async def expected(
    tx: Tx, account_id: str, asked: Mapping[str, Queue], *, at: datetime
) -> dict[str, tuple[int, Expected]]:
    """The places of these conversations among those that wait for the same team, or for none, from 1, and how long they will.

    Those that do not wait are left out.
    """
    worth = (await pools.policy(tx, account_id)).priority_worth_seconds
    counted = text(_PLACES.format(order=places.listed("q", worth)))
    given: dict[str, Any] = {"account": account_id, "ids": sorted(asked)} | ({} if worth is None else {"worth": worth})
    found = {row.conversation_id: row.place for row in (await tx.execute(counted, given)).all()}
    lately: dict[str | None, list[datetime]] = {}
    at_work: dict[Queue, bool] = {}
    for one in {asked[id_] for id_ in found}:
        where = {"account": account_id, "inbox": one.inbox_id, "team": one.team_id, "since": at - waits.WINDOW}
        at_work[one] = bool((await tx.execute(_AT_WORK, where)).scalar_one())
        if one.team_id not in lately:
            lately[one.team_id] = list((await tx.execute(_GIVEN, where)).scalars())
    return {
        id_: (place, waits.expected(place, lately[asked[id_].team_id], at=at, at_work=at_work[asked[id_]]))
        for id_, place in found.items()
    }
