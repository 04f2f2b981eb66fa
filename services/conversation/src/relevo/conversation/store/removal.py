"""Conversations that are deleted: what goes with them, and that they were there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.store.rows import Row, plain

_OF_MESSAGES: Final = "select id from messages where conversation_id = :id and account_id = :account"

# In this order: what hangs from messages, the messages, what agents have of it, the conversation.
_STATEMENTS: Final = tuple(
    text(statement)
    for statement in (
        f"update files set forgotten = true where account_id = :account and message_id in ({_OF_MESSAGES})",
        f"delete from message_edits where account_id = :account and message_id in ({_OF_MESSAGES})",
        "delete from messages where account_id = :account and conversation_id = :id",
        "delete from seen where account_id = :account and conversation_id = :id",
        "delete from mentions where account_id = :account and conversation_id = :id",
        "delete from drafts where account_id = :account and conversation_id = :id",
        "delete from waiting_messages where account_id = :account and conversation_id = :id",
        "delete from surveys where account_id = :account and conversation_id = :id",
        "delete from conversation_merges where account_id = :account and (base_id = :id or other_id = :id)",
        "delete from reminders where account_id = :account and conversation_id = :id",
        "delete from conversations where account_id = :account and id = :id",
    )
)

_REMEMBER = text(
    """
    insert into deleted_conversations (id, account_id, contact_id, number, actor, actor_name, reason, deleted_at)
    values (:id, :account, :contact, :number, :actor, :name, :reason, :at)
    """
)

_LIST = text(
    """
    select cast(id as text) as id, number, actor, actor_name, reason, deleted_at from deleted_conversations
    where account_id = :account and (cast(:at as timestamptz) is null or (deleted_at, id) < (:at, cast(:last as uuid)))
    order by deleted_at desc, id desc limit :limit
    """
)


async def delete(tx: Tx, state: ConversationSnapshot, *, actor: str, name: str, reason: str, at: datetime) -> None:
    """Delete a conversation that is locked, with everything in it; that it was there is kept, with who and why."""
    key = {"account": state.account_id, "id": state.id}
    for statement in _STATEMENTS:
        await tx.execute(statement, key)
    given = {
        **key,
        "contact": state.contact.id,
        "number": state.number,
        "actor": actor,
        "name": name,
        "reason": reason,
        "at": at,
    }
    await tx.execute(_REMEMBER, given)


async def page(tx: Tx, account_id: str, limit: int, after: tuple[datetime, str] | None) -> Sequence[Row]:
    """One page of the conversations that were deleted, the latest first."""
    at, last = after or (None, None)
    return list(plain(await tx.execute(_LIST, {"account": account_id, "limit": limit + 1, "at": at, "last": last})))
