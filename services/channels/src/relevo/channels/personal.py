"""What this service holds of people: messages on their way to webhooks, reports of them, and the chat of the web page."""

from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.erasing import Held, Person, Personal
from relevo.kernel.identity import sender_key

_VISITORS = text(
    """
    select distinct cast(inbox_id as text) as inbox_id, cast(visitor_id as text) as visitor_id from webchat_messages
    where account_id = cast(:account as uuid) and inbox_id = any(cast(:inboxes as uuid[]))
    """
)
_FORGET_VISITORS = text(
    """
    delete from webchat_messages using unnest(cast(:at as uuid[]), cast(:visitors as uuid[])) as k(inbox_id, visitor_id)
    where webchat_messages.account_id = cast(:account as uuid) and webchat_messages.inbox_id = k.inbox_id
        and webchat_messages.visitor_id = k.visitor_id and webchat_messages.at <= :asked_at
    """
)
_REPORTS = text(
    """
    select id, cast(inbox_id as text) as inbox_id, sender from reports
    where account_id = cast(:account as uuid) and inbox_id = any(cast(:inboxes as uuid[]))
    """
)
_FORGET_REPORTS = text(
    "delete from reports where account_id = cast(:account as uuid) and id = any(cast(:ids as bigint[]))"
)


async def forget_visitors(tx: Tx, person: Person) -> None:
    """What is kept under the ids of the channel itself, of which only digests are told."""
    asked, known = person.parameters(), set(person.senders)
    rows = await tx.execute(_VISITORS, asked)
    visitors = [row for row in rows if (row.inbox_id, sender_key(row.visitor_id)) in known]
    if visitors:
        named = {"at": [row.inbox_id for row in visitors], "visitors": [row.visitor_id for row in visitors]}
        await tx.execute(_FORGET_VISITORS, asked | named)
    reports = [row.id for row in await tx.execute(_REPORTS, asked) if (row.inbox_id, sender_key(row.sender)) in known]
    if reports:
        await tx.execute(_FORGET_REPORTS, asked | {"ids": reports})


PERSONAL: Final = Personal(
    held=(
        Held(
            "deliveries",
            ("body", "error"),
            "account_id = cast(:account as uuid) and conversation_id = any(cast(:conversations as uuid[]))",
            """body = '{}', error = null, next_at = null, done_at = coalesce(done_at, now()),
            state = case when state = 'waiting' then 'failed' else state end""",
        ),
    ),
    also=forget_visitors,
    also_columns={
        "webchat_messages": ("author", "author_name", "body", "attachments", "client_id"),
        "reports": ("sender", "body"),
    },
    plain={
        "deliveries": ("kind", "state"),
        "webchat_messages": ("status",),
        "webhook_secrets": ("sealed", "previous"),
    },
)
