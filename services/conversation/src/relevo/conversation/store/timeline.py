"""What the timeline shows of messages: as they are now, not as they were told of."""

from collections.abc import Collection, Sequence

from sqlalchemy import select, text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import messages

_ERASED = text(
    """
    select p.erased_at is not null from conversations c join contacts p on p.id = c.contact_id
    where c.account_id = cast(:account as uuid) and c.id = cast(:conversation as uuid)
    """
)


async def is_erased(tx: Tx, account_id: str, conversation_id: str) -> bool:
    """Whether the person of a conversation was erased."""
    return bool((await tx.execute(_ERASED, {"account": account_id, "conversation": conversation_id})).scalar())


async def said(tx: Tx, account_id: str, conversation_id: str, ids: Collection[str]) -> Sequence[Row]:
    """These messages of a conversation, those of them that are still there."""
    m = messages.c
    statement = select(messages).where(
        m.account_id == account_id, m.conversation_id == conversation_id, m.id.in_(sorted(ids))
    )
    return list(plain(await tx.execute(statement))) if ids else []
