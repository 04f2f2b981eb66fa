"""Forgetting at once what was told of people who were erased, so that nothing of it is sent; the log is the chassis'."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import text

from relevo.chassis.database import Tx

_REMEMBER = text("""
    insert into erased_conversations (id, account_id, at)
    select unnest(cast(:ids as uuid[])), cast(:account as uuid), :at
    on conflict (id) do update set at = greatest(erased_conversations.at, excluded.at)
""")
_FORGET = tuple(
    text(f"""
        delete from {table}
        where account_id = cast(:account as uuid) and conversation_id = any(cast(:ids as uuid[])) and created_at <= :at
    """)
    for table in ("notifications", "mails", "pushes")
)
_ERASED = text("""
    select cast(id as text) as id, at from erased_conversations
    where account_id = any(cast(:accounts as uuid[])) and id = any(cast(:ids as uuid[]))
""")


async def erase(tx: Tx, account_id: str, conversations: Sequence[str], at: datetime) -> None:
    """Forget what was told of these conversations until then, and remember not to tell it later."""
    if not conversations:
        return
    where = {"account": account_id, "ids": sorted(conversations), "at": at}
    await tx.execute(_REMEMBER, where)
    for statement in _FORGET:
        await tx.execute(statement, where)


async def erased(tx: Tx, accounts: Collection[str], conversations: Collection[str]) -> dict[str, datetime]:
    """Of which of these conversations nothing is told that was until then."""
    rows = await tx.execute(_ERASED, {"accounts": sorted(accounts), "ids": sorted(conversations)})
    return {row.id: row.at for row in rows}
