"""Forgetting what was told of people who were erased."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

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

LOG_ROWS: Final = 5_000
"""Rows of the outbox that are emptied in one transaction."""
_PATIENCE = text("set local statement_timeout = '15min'")
# Found by what they hold and not by a cursor over ids: those of transactions that commit late would be passed over.
_REDACT = text("""
    with found as (
        select id, created_at from outbox
        where stream = 'EVT_NOTIFICATION' and convert_from(body, 'UTF8') ~ :pattern
          and convert_from(body, 'UTF8')::jsonb ->> 'conversation_id' = any(cast(:ids as text[]))
          and convert_from(body, 'UTF8')::jsonb ->> 'title' <> ''
        limit :limit
    )
    update outbox o set body = convert_to(
        (convert_from(o.body, 'UTF8')::jsonb || '{"title": "", "body": ""}')::text, 'UTF8')
    from found f where o.id = f.id and o.created_at = f.created_at
""")


async def redact(tx: Tx, conversations: Sequence[str]) -> bool:
    """Empty the texts of rows of our own log that are about these; tells whether there may be more."""
    ids = sorted(conversations)
    if not ids:
        return False
    await tx.execute(_PATIENCE)
    done = await tx.execute(_REDACT, {"ids": ids, "pattern": "|".join(ids), "limit": LOG_ROWS})
    return done.rowcount == LOG_ROWS


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
