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
"""Rows of the outbox that are looked through in one transaction."""
_REDACT = text("""
    with looked as (
        select id, created_at, stream, body from outbox
        where id > :after order by id limit :limit
    ), changed as (
        update outbox o set body = convert_to(
            (convert_from(o.body, 'UTF8')::jsonb || '{"title": "", "body": ""}')::text, 'UTF8')
        from looked l
        where o.id = l.id and o.created_at = l.created_at and l.stream = 'EVT_NOTIFICATION'
          and convert_from(l.body, 'UTF8')::jsonb ? 'title'
          and convert_from(l.body, 'UTF8')::jsonb ->> 'conversation_id' = any(cast(:ids as text[]))
        returning o.id
    )
    select (select max(id) from looked) as through, (select count(*) from looked) as looked_at,
           (select count(*) from changed) as redacted
""")


async def redact(tx: Tx, conversations: Sequence[str], after: int) -> int | None:
    """Empty the texts of the next rows of our own log that are about these; answers where to go on, None at the end."""
    where = {"ids": sorted(conversations), "after": after, "limit": LOG_ROWS}
    row = (await tx.execute(_REDACT, where)).one()
    return int(row.through) if row.looked_at == LOG_ROWS else None


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
