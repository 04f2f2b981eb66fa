"""Messages and private notes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import select, text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation.store.rows import Key, Row, json_list, plain
from relevo.conversation.tables import messages

MESSAGE_COLUMNS: Final = """
    cast(m.id as text) as id, cast(m.conversation_id as text) as conversation_id, m.kind, m.sequence, m.text, m.author,
    m.author_name, m.external_id, m.reply_to, m.attachments, m.mentions, m.status, m.error,
    m.reactions, cast(m.retry_of as text) as retry_of, m.edited_at, m.deleted_at, m.occurred_at, m.created_at
"""

_FIND = text(
    f"""
    select cast(m.account_id as text) as account_id, {MESSAGE_COLUMNS}
    from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    join messages m on m.id = k.id and m.account_id = k.account_id
    where m.conversation_id is not null
    """
)

_SAVE = text(
    """
    insert into messages (
        id, account_id, conversation_id, withheld_from, sequence, kind, text, author, author_name, external_id,
        reply_to, attachments, mentions, activity, cause, status, error, retry_of, occurred_at, created_at
    )
    select
        r.id, r.account_id, case when r.withheld_from is null then r.conversation_id end, r.withheld_from,
        case when r.withheld_from is null then r.sequence end, r.kind, r.text, r.author, r.author_name, r.external_id,
        r.reply_to, r.attachments, r.mentions, cast(r.activity as jsonb), r.cause, r.status, r.error, r.retry_of, r.occurred_at, r.created_at
    from rows from (
        json_to_recordset(cast(:messages as json)) as (
            id uuid, conversation_id uuid, kind text, sequence bigint, text text, author text, author_name text,
            external_id text, reply_to text, attachments jsonb, mentions text[], status text, error text,
            retry_of uuid, occurred_at timestamptz, created_at timestamptz
        ),
        unnest(cast(:accounts as uuid[])),
        unnest(cast(:withheld as uuid[])),
        unnest(cast(:activities as text[])),
        unnest(cast(:causes as text[]))
    ) as r(
        id, conversation_id, kind, sequence, text, author, author_name, external_id, reply_to, attachments, mentions,
        status, error, retry_of, occurred_at, created_at, account_id, withheld_from, activity, cause
    )
    on conflict (id) do update set
        status = excluded.status, error = excluded.error, external_id = excluded.external_id
    """
)

# What the list of conversations with one's mentions is found by; their row is locked, as for every message.
_MENTION = text(
    """
    update conversations c set mentioned = array(select distinct unnest(c.mentioned || k.actors) order by 1)
    from json_to_recordset(cast(:mentions as json)) as k(account_id uuid, id uuid, actors text[])
    where c.id = k.id and c.account_id = k.account_id and not c.mentioned @> k.actors
    """
)

_REWRITE = text(
    """
    with before as (
        insert into message_edits (account_id, message_id, edited_at, actor, text)
        select m.account_id, m.id, :at, :actor, m.text from messages m
        where m.id = :id and m.account_id = :account and not :deleted and m.text <> :text
    ), forgotten as (
        delete from message_edits where message_id = :id and account_id = :account and :deleted
    ), files_forgotten as (
        update files set forgotten = true where message_id = :id and account_id = :account and :deleted
    )
    update messages set text = :text, attachments = cast(:attachments as jsonb),
        reactions = cast(:reactions as jsonb), edited_at = :edited_at,
        deleted_at = :deleted_at
    where id = :id and account_id = :account
    """
)

_EDITS = text(
    """
    select edited_at, actor, text from message_edits where account_id = :account and message_id = :message
    order by edited_at
    """
)

_RETRIED = text("select exists (select from messages where account_id = :account and retry_of = :message)")


def message_of(row: Mapping[str, Any]) -> MessageSnapshot:
    """The message within a row that has MESSAGE_COLUMNS."""
    return MessageSnapshot.model_validate(dict(row))


async def find(tx: Tx, keys: Iterable[Key]) -> dict[Key, MessageSnapshot]:
    """The messages that exist among these; lock their conversations first."""
    wanted = set(keys)
    if not wanted:
        return {}
    rows = await tx.execute(_FIND, {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]})
    return {(row["account_id"], row["id"]): message_of(row) for row in plain(rows)}


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with its account. ``withheld_from`` is the blocked contact who wrote it: it is in no conversation.

    ``activity`` is what an activity line tells, as JSON. ``cause`` names the event or command that brought it about.
    """

    account_id: str
    message: MessageSnapshot
    withheld_from: str | None = None
    activity: str | None = None
    cause: str | None = None


async def save(tx: Tx, stored: Sequence[StoredMessage]) -> None:
    """Write messages, and in their conversations whom they mention; of those that exist only the delivery status changes."""
    if not stored:
        return
    await tx.execute(
        _SAVE,
        {
            "messages": json_list(s.message.model_dump_json() for s in stored),
            "accounts": [s.account_id for s in stored],
            "withheld": [s.withheld_from for s in stored],
            "activities": [s.activity for s in stored],
            "causes": [s.cause for s in stored],
        },
    )
    mentions: dict[Key, set[str]] = {}
    for s in stored:
        if s.message.mentions:
            mentions.setdefault((s.account_id, s.message.conversation_id), set()).update(s.message.mentions)
    if mentions:
        told = [
            {"account_id": account, "id": id_, "actors": sorted(actors)} for (account, id_), actors in mentions.items()
        ]
        await tx.execute(_MENTION, {"mentions": to_json(told).decode()})


async def rewrite(tx: Tx, account_id: str, message: MessageSnapshot, actor: str) -> None:
    """Write a message anew, and keep what it said; of one that is deleted nothing is kept."""
    await tx.execute(
        _REWRITE,
        {
            "account": account_id,
            "id": message.id,
            "at": message.edited_at,
            "actor": actor,
            "text": message.text,
            "attachments": to_json(message.attachments).decode(),
            "reactions": to_json(message.reactions).decode(),
            "edited_at": message.edited_at,
            "deleted_at": message.deleted_at,
            "deleted": message.deleted_at is not None,
        },
    )


async def edits(tx: Tx, account_id: str, message_id: str) -> Sequence[Row]:
    """What a message said before, the oldest first."""
    return list(plain(await tx.execute(_EDITS, {"account": account_id, "message": message_id})))


async def was_retried(tx: Tx, account_id: str, message_id: str) -> bool:
    """Whether a message was sent again."""
    found = await tx.execute(_RETRIED, {"account": account_id, "message": message_id})
    return bool(found.scalar_one())


async def page(
    tx: Tx, account_id: str, conversation_id: str, limit: int, after: tuple[int, int] | None, *, newest_first: bool
) -> Sequence[Row]:
    """One page of a conversation's messages by sequence; whether it may be seen was asked before."""
    m = messages.c
    conditions = [m.account_id == account_id, m.conversation_id == conversation_id]
    if after is not None:
        # The second number is of what is shown from another conversation: it comes after the own message of that number.
        place, part = after
        conditions.append(m.sequence < place + (part > 0) if newest_first else m.sequence > place)
    statement = (
        select(messages).where(*conditions).order_by(m.sequence.desc() if newest_first else m.sequence).limit(limit + 1)
    )
    return list(plain(await tx.execute(statement)))
