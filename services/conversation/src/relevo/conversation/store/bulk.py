"""Acts on many conversations: what is asked, how far it is."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, text

from relevo.chassis.database import Tx
from relevo.conversation.filters import Filters, conditions
from relevo.conversation.lists import BY_ACTIVITY, FACTS
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import conversations
from relevo.kernel.access import Viewer, visible

_COLUMNS = """
    cast(id as text) as id, cast(account_id as text) as account_id, actor, act, state, done, changed, refused, refusals,
    cardinality(ids) as total, created_at, finished_at
"""

_ADD = text(
    f"""
    insert into bulk_jobs (id, account_id, actor, act, ids, state, created_at)
    values (:id, :account, :actor, cast(:act as jsonb), cast(:ids as uuid[]), 'running', now())
    returning {_COLUMNS}
    """
)

_READ = text(f"select {_COLUMNS} from bulk_jobs where account_id = :account and actor = :actor and id = :id")

_TAKE = text(
    f"""
    select {_COLUMNS}, cast(ids[done + 1 : done + :size] as text[]) as next from bulk_jobs
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) and state = 'running' for update
    """
)

_MOVE = text(
    """
    update bulk_jobs set done = done + :done, changed = changed + :changed, refused = refused + :refused,
        refusals = case when jsonb_array_length(refusals) < 1000 then refusals || cast(:refusals as jsonb)
            else refusals end,
        state = case when done + :done >= cardinality(ids) then 'done' else state end,
        finished_at = case when done + :done >= cardinality(ids) then now() end
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
    """
)

_CANCEL = text(
    f"""
    update bulk_jobs set state = 'cancelled', finished_at = now()
    where account_id = :account and actor = :actor and id = :id and state = 'running' returning {_COLUMNS}
    """
)


async def matching(tx: Tx, viewer: Viewer, filters: Filters, limit: int) -> list[str]:
    """The conversations that the viewer sees and the filters want, at most so many."""
    c = conversations.c
    statement = (
        select(c.id)
        .where(visible(viewer, FACTS), *conditions(viewer.account_id, filters))
        .order_by(*(key.desc() for key in BY_ACTIVITY))
        .limit(limit)
    )
    return list((await tx.execute(statement)).scalars())


async def add(  # noqa: PLR0917
    tx: Tx, account_id: str, id_: str, actor: str, act: dict[str, Any], ids: Iterable[str]
) -> Row:
    """Keep what is asked."""
    given = {"account": account_id, "id": id_, "actor": actor, "act": json.dumps(act)}
    return next(plain(await tx.execute(_ADD, {**given, "ids": list(ids)})))


async def read(tx: Tx, account_id: str, actor: str, id_: str) -> Row | None:
    """How far it is."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "actor": actor, "id": id_})), None)


async def take(tx: Tx, account_id: str, id_: str, size: int) -> Row | None:
    """The job, locked, with the next conversations; None when it runs no more."""
    return next(plain(await tx.execute(_TAKE, {"account": account_id, "id": id_, "size": size})), None)


async def move(
    tx: Tx, account_id: str, id_: str, *, done: int, changed: int, refusals: Sequence[dict[str, str]]
) -> None:
    """It is so much further; the last move ends it."""
    given = {"account": account_id, "id": id_, "done": done, "changed": changed, "refused": len(refusals)}
    await tx.execute(_MOVE, {**given, "refusals": json.dumps(list(refusals))})


async def cancel(tx: Tx, account_id: str, actor: str, id_: str) -> Row | None:
    """Do no more of it; None when it runs no more."""
    return next(plain(await tx.execute(_CANCEL, {"account": account_id, "actor": actor, "id": id_})), None)
