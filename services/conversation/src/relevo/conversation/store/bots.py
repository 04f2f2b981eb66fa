"""SQL of bots: which one an inbox has, and how much one has said in a conversation."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from relevo.chassis.database import Tx

# Of several credentials of an inbox the newest counts: so a bot's is renewed.
_ATTACHED = text("""
    select distinct on (state ->> 'inbox_id') state ->> 'inbox_id' as inbox_id, id
    from directory
    where kind = 'key' and account_id = any(cast(:accounts as text[])) and not deleted and state ->> 'kind' = 'bot'
      and state ->> 'inbox_id' = any(cast(:inboxes as text[]))
    order by state ->> 'inbox_id', id desc
""")
_SAID = text("""
    with last as (
        select author, kind, sequence, created_at from messages
        where account_id = cast(:account as uuid) and conversation_id = cast(:conversation as uuid)
          and kind in ('incoming', 'outgoing')
        order by sequence desc limit 200
    )
    select count(*) filter (where author like 'bot:%' and created_at > :since) as lately,
           count(*) filter (where author like 'bot:%' and sequence > coalesce(
               (select max(sequence) from last where kind = 'incoming'), 0)) as in_a_row
    from last
""")


class Said(NamedTuple):
    """How many messages a bot wrote lately, and how many since the customer's last one."""

    lately: int
    in_a_row: int


async def attached(tx: Tx, accounts: Iterable[str], inboxes: Iterable[str]) -> dict[str, str]:
    """The bots of these inboxes, by inbox; those without one are missing."""
    rows = await tx.execute(_ATTACHED, {"accounts": sorted(set(accounts)), "inboxes": sorted(set(inboxes))})
    return {row.inbox_id: row.id for row in rows}


async def said(tx: Tx, account_id: str, conversation_id: str, since: datetime) -> Said:
    """What bots have said in a conversation, of its last 200 public messages."""
    given = {"account": account_id, "conversation": conversation_id, "since": since}
    row = (await tx.execute(_SAID, given)).one()
    return Said(row.lately, row.in_a_row)
