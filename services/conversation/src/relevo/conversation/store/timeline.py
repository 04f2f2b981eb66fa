"""What the timeline shows of messages: as they are now, not as they were told of."""

from collections.abc import Collection, Sequence

from sqlalchemy import select

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import messages


async def said(tx: Tx, account_id: str, conversation_id: str, ids: Collection[str]) -> Sequence[Row]:
    """These messages of a conversation, those of them that are still there."""
    m = messages.c
    statement = select(messages).where(
        m.account_id == account_id, m.conversation_id == conversation_id, m.id.in_(sorted(ids))
    )
    return list(plain(await tx.execute(statement))) if ids else []
