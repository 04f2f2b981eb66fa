"""SQL of the answers out of hours: until when a conversation has had its answer."""

from collections.abc import Sequence

from sqlalchemy import text

from relevo.automation.domain.out_of_hours import Answer
from relevo.chassis.database import Tx

# In the order of the primary key, so that two batches never wait for each other in a circle.
_CLAIM = text("""
    insert into out_of_hours_answers as a (account_id, conversation_id, opens_at, answered_at)
    select account_id, conversation_id, opens_at, at
    from unnest(cast(:accounts as uuid[]), cast(:conversations as uuid[]), cast(:opens as timestamptz[]),
                cast(:ats as timestamptz[])) as n(account_id, conversation_id, opens_at, at)
    order by account_id, conversation_id
    on conflict (account_id, conversation_id) do update
        set opens_at = excluded.opens_at, answered_at = excluded.answered_at
        where a.opens_at <= excluded.answered_at
    returning cast(conversation_id as text)
""")


async def claim(tx: Tx, answers: Sequence[Answer]) -> set[str]:
    """The conversations (one answer each) that have had none in their present closed period, which now has had it."""
    rows = await tx.execute(
        _CLAIM,
        {
            "accounts": [one.setting.account_id for one in answers],
            "conversations": [one.conversation.id for one in answers],
            "opens": [one.opens_at for one in answers],
            "ats": [one.at for one in answers],
        },
    )
    return set(rows.scalars())
