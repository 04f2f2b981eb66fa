"""SQL of the webchats: which conversation a visitor is in, and the reverse."""

from collections.abc import Iterable

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.personal import nameless
from relevo.contracts.snapshots import ConversationSnapshot

_PROJECT = text("""
    insert into chats (conversation_id, account_id, inbox_id, visitor_id, number)
    select * from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:visitors as text[]),
        cast(:numbers as bigint[]))
    on conflict (conversation_id) do nothing
""")
_FORGET = text("""
    delete from chats
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:ids as uuid[]))
""")
_VISITOR = text("""
    select cast(inbox_id as text) as inbox_id, visitor_id from chats
    where account_id = cast(:account as uuid) and conversation_id = cast(:conversation as uuid)
""")
_CONVERSATION = text("""
    select cast(conversation_id as text) from chats
    where account_id = cast(:account as uuid) and inbox_id = cast(:inbox as uuid) and visitor_id = :visitor
    order by number desc limit 1
""")


async def project(tx: Tx, snapshots: Iterable[ConversationSnapshot]) -> None:
    """Keep whose conversations these are, where they are a webchat's; that never changes. Of who was erased nothing."""
    webchats = [one for one in snapshots if one.channel == "webchat"]
    rows = sorted((o for o in webchats if o.source_id not in ("", nameless(o.id))), key=lambda one: one.id)
    if rows:
        await tx.execute(
            _PROJECT,
            {
                "ids": [row.id for row in rows],
                "accounts": [row.account_id for row in rows],
                "inboxes": [row.inbox_id for row in rows],
                "visitors": [row.source_id for row in rows],
                "numbers": [row.number for row in rows],
            },
        )


async def forget(tx: Tx, accounts: Iterable[str], ids: Iterable[str]) -> None:
    """The people of these conversations were erased."""
    await tx.execute(_FORGET, {"accounts": sorted(set(accounts)), "ids": sorted(set(ids))})


async def visitor(tx: Tx, account_id: str, conversation_id: str) -> tuple[str, str] | None:
    """The inbox and the visitor of a conversation, None when it is no webchat's."""
    row = (await tx.execute(_VISITOR, {"account": account_id, "conversation": conversation_id})).first()
    return None if row is None else (row.inbox_id, row.visitor_id)


async def conversation(tx: Tx, account_id: str, inbox_id: str, visitor_id: str) -> str | None:
    """The conversation that a visitor is in: their last one."""
    where = {"account": account_id, "inbox": inbox_id, "visitor": visitor_id}
    found: str | None = (await tx.execute(_CONVERSATION, where)).scalar()
    return found
