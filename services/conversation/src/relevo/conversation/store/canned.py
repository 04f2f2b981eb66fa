"""Canned replies."""

from collections.abc import Sequence

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain

_COLUMNS = "cast(id as text) as id, code, text, version, updated_by, updated_at"

_ADD = text(
    f"""
    insert into canned_replies (id, account_id, code, text, folded, version, updated_by, updated_at)
    values (:id, :account, :code, :text, :folded, 1, :actor, now())
    on conflict (account_id, code) do nothing returning {_COLUMNS}
    """
)

# By how well it fits: the code begins so, the code has it, the text has it.
_SEARCH = text(
    f"""
    select {_COLUMNS}, rank from (
        select *, case when starts_with(code, :q) then 1 when strpos(code, :q) > 0 then 2 else 3 end as rank
        from canned_replies
        where account_id = :account and (strpos(code, :q) > 0 or strpos(folded, :q) > 0)
    ) as found
    where cast(:rank as integer) is null or (rank, code) > (:rank, :code)
    order by rank, code limit :limit
    """
)

_READ = text(f"select {_COLUMNS} from canned_replies where account_id = :account and id = :id for update")

_WRITE = text(
    f"""
    update canned_replies set code = :code, text = :text, folded = :folded, version = version + 1,
        updated_by = :actor, updated_at = now()
    where account_id = :account and id = :id returning {_COLUMNS}
    """
)

_DROP = text("delete from canned_replies where account_id = :account and id = :id")


async def add(tx: Tx, account_id: str, id_: str, *, code: str, said: str, folded: str, actor: str) -> Row | None:
    """Keep a new one; None when the code is taken."""
    given = {"account": account_id, "id": id_, "code": code, "text": said, "folded": folded, "actor": actor}
    return next(plain(await tx.execute(_ADD, given)), None)


async def search(tx: Tx, account_id: str, q: str, limit: int, after: tuple[int, str] | None) -> Sequence[Row]:
    """One page of those whose code or text has this (folded), the best fitting first; with an empty one all, by code."""
    rank, code = after or (None, None)
    given = {"account": account_id, "q": q, "limit": limit + 1, "rank": rank, "code": code}
    return list(plain(await tx.execute(_SEARCH, given)))


async def read(tx: Tx, account_id: str, id_: str) -> Row | None:
    """One, locked."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": id_})), None)


async def write(tx: Tx, account_id: str, id_: str, *, code: str, said: str, folded: str, actor: str) -> Row:
    """Write one anew. Raises psycopg.errors.UniqueViolation when the code is taken."""
    given = {"account": account_id, "id": id_, "code": code, "text": said, "folded": folded, "actor": actor}
    return next(plain(await tx.execute(_WRITE, given)))


async def drop(tx: Tx, account_id: str, id_: str) -> None:
    """Remove one."""
    await tx.execute(_DROP, {"account": account_id, "id": id_})
