"""What each agent has of their own: what they have seen, what they were mentioned in, what they are writing."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, select, text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation.store import joins
from relevo.conversation.store.rows import Row, older, plain
from relevo.conversation.tables import conversations, drafts, mentions, messages
from relevo.kernel.access import ConversationColumns, Viewer, visible

MAX_UNREAD: Final = 100
"""Unread messages are counted up to here."""
_FACTS: Final = ConversationColumns.of(dict(conversations.c.items()))

_SEE = text(
    """
    insert into seen (account_id, agent_id, conversation_id, sequence, seen_at)
    values (:account, :agent, :conversation, :sequence, now())
    on conflict (agent_id, conversation_id) do update set sequence = excluded.sequence, seen_at = excluded.seen_at
        where :back or excluded.sequence > seen.sequence
    """
)

_LAST_INCOMING = text(
    """
    select max(m.sequence) as last from messages m
    join conversations c on c.id = m.conversation_id and c.account_id = m.account_id
    where m.account_id = :account and m.conversation_id = :conversation and m.kind = 'incoming'
        and m.sequence > c.imported_through
    """
)

# What was imported is nobody's to read. CASE and not COALESCE: behind the wall between accounts, PostgreSQL takes the latter for leaky and keeps it from the index.
UNREAD: Final = text(
    f"""
    select cast(k.id as text) as id, coalesce(s.sequence, 0) as seen, (
        select count(*) from (
            select from messages m
            where m.conversation_id = k.id and m.account_id = :account and m.kind = 'incoming'
                and m.sequence > case
                    when s.sequence is null or s.sequence < c.imported_through then c.imported_through else s.sequence
                end
            order by m.sequence limit {MAX_UNREAD}
        ) as found
    ) as unread
    from unnest(cast(:ids as uuid[])) with ordinality as k(id, n)
    join conversations c on c.id = k.id and c.account_id = :account
    left join seen s on s.conversation_id = k.id and s.agent_id = :agent and s.account_id = :account
    order by k.n
    """
)

_MENTION = text(
    """
    insert into mentions (account_id, agent_id, conversation_id, message_id, mentioned_at)
    select :account, k.agent_id, :conversation, :message, :at from unnest(cast(:agents as uuid[])) as k(agent_id)
    on conflict do nothing
    """
)

_KEEP_DRAFT = text(
    """
    insert into drafts (account_id, agent_id, conversation_id, text, private, updated_at)
    values (:account, :agent, :conversation, :text, :private, :at)
    on conflict (agent_id, conversation_id) do update
        set text = excluded.text, private = excluded.private, updated_at = excluded.updated_at
    """
)

_DROP_DRAFT = text(
    """
    delete from drafts where account_id = :account and agent_id = :agent and conversation_id = :conversation
        and (cast(:private as boolean) is null or private = :private)
    """
)


async def see(
    tx: Tx, account_id: str, agent_id: str, conversation_id: str, sequence: int, *, back: bool = False
) -> None:
    """The agent has seen the conversation up to here. What was seen stays so, unless it goes ``back``."""
    given = {"account": account_id, "agent": agent_id, "conversation": conversation_id}
    await tx.execute(_SEE, {**given, "sequence": sequence, "back": back})


async def last_incoming(tx: Tx, account_id: str, conversation_id: str) -> int | None:
    """The number of the customer's last message, None when there is none."""
    found = await tx.execute(_LAST_INCOMING, {"account": account_id, "conversation": conversation_id})
    last: int | None = found.scalar_one()
    return last


async def visible_among(tx: Tx, viewer: Viewer, ids: Iterable[str]) -> set[str]:
    """Those of these conversations that the viewer sees."""
    c = conversations.c
    statement = select(c.id).where(c.account_id == viewer.account_id, c.id.in_(list(ids)), visible(viewer, _FACTS))
    return set((await tx.execute(statement)).scalars())


async def unread(tx: Tx, account_id: str, agent_id: str, ids: Iterable[str]) -> Sequence[Row]:
    """For each conversation, up to where the agent has seen it and how many customer messages came since, its parts' too."""
    asked = list(ids)
    rows = list(plain(await tx.execute(UNREAD, {"account": account_id, "agent": agent_id, "ids": asked})))
    if parts := await joins.parts(tx, account_id, asked):
        others = [other for found in parts.values() for other in found]
        of_parts = plain(await tx.execute(UNREAD, {"account": account_id, "agent": agent_id, "ids": others}))
        unread_there = {row["id"]: row["unread"] for row in of_parts}
        for row in rows:
            more = sum(unread_there[other] for other in parts.get(row["id"], ()))
            row["unread"] = min(row["unread"] + more, MAX_UNREAD)
    return rows


async def mention(tx: Tx, account_id: str, note: MessageSnapshot, agents: Iterable[str]) -> None:
    """A note mentions these people."""
    given = {"account": account_id, "conversation": note.conversation_id, "message": note.id, "at": note.created_at}
    await tx.execute(_MENTION, {**given, "agents": sorted(set(agents))})


def page_of_mentions(viewer: Viewer, limit: int, after: tuple[datetime, str] | None) -> Select[Any]:
    """The statement of one page of an agent's mentions, the newest first, in conversations that they (still) see."""
    m = mentions.c
    statement = (
        select(messages, m.mentioned_at)
        .join_from(mentions, conversations, conversations.c.id == m.conversation_id)
        .join(messages, messages.c.id == m.message_id)
        .where(m.account_id == viewer.account_id, m.agent_id == viewer.agent_id, visible(viewer, _FACTS))
        .order_by(m.mentioned_at.desc(), m.message_id.desc())
        .limit(limit + 1)
    )
    return statement if after is None else statement.where(older(m.mentioned_at, m.message_id, after))


def page_of_drafts(viewer: Viewer, limit: int, after: tuple[datetime, str] | None) -> Select[Any]:
    """The statement of one page of an agent's drafts, the newest first, in conversations that they (still) see."""
    d = drafts.c
    statement = (
        select(d.conversation_id, d.text, d.private, d.updated_at)
        .join_from(drafts, conversations, conversations.c.id == d.conversation_id)
        .where(d.account_id == viewer.account_id, d.agent_id == viewer.agent_id, visible(viewer, _FACTS))
        .order_by(d.updated_at.desc(), d.conversation_id.desc())
        .limit(limit + 1)
    )
    return statement if after is None else statement.where(older(d.updated_at, d.conversation_id, after))


async def page(tx: Tx, statement: Select[Any]) -> Sequence[Row]:
    """The rows of a page."""
    return list(plain(await tx.execute(statement)))


async def draft(tx: Tx, account_id: str, agent_id: str, conversation_id: str) -> Row | None:
    """What the agent is writing in a conversation."""
    d = drafts.c
    statement = select(d.conversation_id, d.text, d.private, d.updated_at).where(
        d.account_id == account_id, d.agent_id == agent_id, d.conversation_id == conversation_id
    )
    return next(plain(await tx.execute(statement)), None)


async def keep_draft(
    tx: Tx, account_id: str, agent_id: str, conversation_id: str, *, said: str, private: bool, at: datetime
) -> None:
    """Keep what the agent is writing; one draft a conversation."""
    given = {"account": account_id, "agent": agent_id, "conversation": conversation_id}
    await tx.execute(_KEEP_DRAFT, {**given, "text": said, "private": private, "at": at})


async def drop_draft(
    tx: Tx, account_id: str, agent_id: str, conversation_id: str, *, private: bool | None = None
) -> None:
    """Forget what the agent was writing; with ``private`` only if it was that: a note, or a reply."""
    given = {"account": account_id, "agent": agent_id, "conversation": conversation_id}
    await tx.execute(_DROP_DRAFT, {**given, "private": private})
