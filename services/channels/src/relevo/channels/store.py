"""All SQL of the service."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.base import new_id
from relevo.contracts.conversation import OutboundMessage, OutboundUpdate
from relevo.contracts.inbound import InboundStatus


@dataclass(frozen=True, slots=True)
class Secrets:
    """An inbox's sealed secrets."""

    sealed: bytes
    previous: bytes | None
    rotated_at: datetime


_SECRETS = text("""
    select sealed, previous, rotated_at from webhook_secrets
    where inbox_id = cast(:inbox as uuid) and account_id = cast(:account as uuid)
""")
_ROTATE = text("""
    insert into webhook_secrets (inbox_id, account_id, sealed, rotated_at)
    values (cast(:inbox as uuid), cast(:account as uuid), :sealed, :now)
    on conflict (inbox_id) do update
        set previous = webhook_secrets.sealed, sealed = excluded.sealed, rotated_at = excluded.rotated_at
        where webhook_secrets.account_id = excluded.account_id
""")
_FIRST_SECRET = text("""
    insert into webhook_secrets (inbox_id, account_id, sealed, rotated_at)
    values (cast(:inbox as uuid), cast(:account as uuid), :sealed, :now)
    on conflict (inbox_id) do nothing
""")
_ADD_DELIVERY = text("""
    insert into deliveries (message_id, account_id, inbox_id, conversation_id, kind, body, next_at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:inbox as uuid), cast(:conversation as uuid), :kind, :body, now())
    on conflict (message_id) do nothing
""")
# Of a conversation only the first message that waits, so that they arrive in order; of an inbox only so many at once.
# The claim: an attempt that dies with its process is made again when the claim runs out.
_CLAIM = text("""
    update deliveries set attempts = attempts + 1, next_at = now() + make_interval(secs => :claim)
    where message_id in (
        select message_id from deliveries
        where state = 'waiting' and next_at <= now() and message_id in (
            select message_id from (
                select d.message_id, row_number() over (partition by d.inbox_id order by d.next_at) as place
                from deliveries d
                where d.state = 'waiting' and d.next_at <= now() and d.inbox_id <> all(cast(:busy as uuid[]))
                  and not exists (
                      select 1 from deliveries e
                      where e.conversation_id = d.conversation_id and e.state = 'waiting'
                        and e.message_id < d.message_id)
            ) ready where place <= :of_one limit :limit)
        for update skip locked)
    returning cast(message_id as text) as message_id, cast(account_id as text) as account_id,
              cast(inbox_id as text) as inbox_id, kind, body, attempts
""")
_DONE = text("""
    update deliveries set state = :state, error = :error, next_at = null, done_at = now()
    where message_id = cast(:id as uuid) and state = 'waiting'
""")
_AGAIN = text("""
    update deliveries set next_at = now() + make_interval(secs => :delay), error = :error
    where message_id = cast(:id as uuid) and state = 'waiting'
""")
_COUNTS = text("""
    select count(*) filter (where state = 'waiting') as waiting,
           count(*) filter (where state = 'failed' and done_at > now() - interval '1 day') as failed,
           max(done_at) filter (where state = 'sent') as last_sent_at
    from deliveries where inbox_id = cast(:inbox as uuid) and account_id = cast(:account as uuid)
""")
_ADD_REPORTS = text("""
    insert into reports (event_id, account_id, inbox_id, sender, body)
    select * from unnest(
        cast(:events as uuid[]), cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:senders as text[]),
        cast(:bodies as text[]))
""")
_REPORTS = text("""
    select id, cast(event_id as text) as event_id, cast(account_id as text) as account_id,
           cast(inbox_id as text) as inbox_id, sender, body
    from reports order by id limit :limit for update skip locked
""")
_FORGET_REPORTS = text("delete from reports where id = any(cast(:ids as bigint[]))")
_SERIALISE = text("select pg_advisory_xact_lock(hashtextextended(:visitor, 0))")
_ADD_REPLY = text("""
    insert into webchat_messages
        (id, account_id, inbox_id, visitor_id, author, author_name, body, attachments, status, at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:inbox as uuid), cast(:visitor as uuid), 'team', :name,
            :body, cast(:attachments as jsonb), 'sent', :at)
    on conflict (id) do nothing returning position
""")
_SHOWN: Final = """
    position, cast(id as text) as id, author, author_name, body, attachments, status, at, client_id, edited_at, deleted_at
"""
_ADD_SAID = text(f"""
    insert into webchat_messages as m
        (id, account_id, inbox_id, visitor_id, client_id, author, author_name, body, status, at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:inbox as uuid), cast(:visitor as uuid), :client,
            'visitor', :name, :body, 'sending', :at)
    on conflict (inbox_id, visitor_id, client_id) do update set client_id = m.client_id
    returning {_SHOWN}
""")
_SAID = text("update webchat_messages set status = 'sent' where id = cast(:id as uuid) and status = 'sending'")
_MESSAGES = text(f"""
    select {_SHOWN}
    from webchat_messages
    where inbox_id = cast(:inbox as uuid) and visitor_id = cast(:visitor as uuid) and position > :after
    order by position limit :limit
""")
_CHANGE = text("""
    update webchat_messages set changed = nextval('webchat_changes'),
        body = case when :delete then '' else :body end,
        attachments = case when :delete then '[]' else attachments end,
        edited_at = case when :delete then edited_at else cast(:at as timestamptz) end,
        deleted_at = case when :delete then cast(:at as timestamptz) end
    where id = cast(:id as uuid) and inbox_id = cast(:inbox as uuid) and visitor_id = cast(:visitor as uuid)
      and author = 'team' and deleted_at is null
""")
_THERE = text("""
    select 1 from webchat_messages
    where id = cast(:id as uuid) and inbox_id = cast(:inbox as uuid) and visitor_id = cast(:visitor as uuid)
""")
_CHANGED = text(f"""
    select changed, {_SHOWN}
    from webchat_messages
    where inbox_id = cast(:inbox as uuid) and visitor_id = cast(:visitor as uuid)
      and changed > :after and position <= :until
    order by changed limit :limit
""")
_REACHED = text("""
    update webchat_messages set status = :status
    where inbox_id = cast(:inbox as uuid) and visitor_id = cast(:visitor as uuid) and author = 'team'
      and position <= :until and status = any(cast(:before as text[]))
    returning cast(id as text) as id, position
""")


async def secrets(tx: Tx, account_id: str, inbox_id: str) -> Secrets | None:
    """An inbox's secrets, None when it has none yet."""
    row = (await tx.execute(_SECRETS, {"inbox": inbox_id, "account": account_id})).first()
    if row is None:
        return None
    return Secrets(bytes(row.sealed), bytes(row.previous) if row.previous else None, row.rotated_at)


async def rotate(tx: Tx, account_id: str, inbox_id: str, sealed: bytes, now: datetime) -> None:
    """Give an inbox a new secret; the one before it is kept for a while."""
    await tx.execute(_ROTATE, {"inbox": inbox_id, "account": account_id, "sealed": sealed, "now": now})


async def first_secret(tx: Tx, account_id: str, inbox_id: str, sealed: bytes, now: datetime) -> None:
    """Give an inbox a secret if it has none."""
    await tx.execute(_FIRST_SECRET, {"inbox": inbox_id, "account": account_id, "sealed": sealed, "now": now})


async def add_delivery(tx: Tx, account_id: str, message: OutboundMessage | OutboundUpdate) -> None:
    """Have a message, or a change of one, delivered to its inbox's webhook, once however often it comes."""
    await tx.execute(
        _ADD_DELIVERY,
        {
            "id": message.change_id if isinstance(message, OutboundUpdate) else message.message_id,
            "account": account_id,
            "inbox": message.inbox_id,
            "conversation": message.conversation_id,
            "kind": "update" if isinstance(message, OutboundUpdate) else "message",
            "body": message.model_dump_json(),
        },
    )


async def claim(tx: Tx, busy: Collection[str], *, limit: int, of_one: int, seconds: float) -> Sequence[Any]:
    """Deliveries that are due, none of a busy inbox; `attempts` counts this one."""
    where = {"busy": sorted(busy), "limit": limit, "of_one": of_one, "claim": seconds}
    return (await tx.execute(_CLAIM, where)).all()


async def delivered(tx: Tx, message_id: str) -> bool:
    """The webhook took it; False when that was known."""
    return bool((await tx.execute(_DONE, {"id": message_id, "state": "sent", "error": None})).rowcount)


async def failed(tx: Tx, message_id: str, error: str) -> bool:
    """It is not tried again; False when that was known."""
    return bool((await tx.execute(_DONE, {"id": message_id, "state": "failed", "error": error})).rowcount)


async def again(tx: Tx, message_id: str, delay: timedelta, error: str) -> None:
    """It is tried again after this while."""
    await tx.execute(_AGAIN, {"id": message_id, "delay": delay.total_seconds(), "error": error})


async def counts(tx: Tx, account_id: str, inbox_id: str) -> Any:
    """How an inbox's deliveries are doing."""
    return (await tx.execute(_COUNTS, {"inbox": inbox_id, "account": account_id})).one()


async def report(tx: Tx, account_id: str, inbox_id: str, statuses: Sequence[InboundStatus]) -> None:
    """Have ingest told what became of messages."""
    if not statuses:
        return
    await tx.execute(
        _ADD_REPORTS,
        {
            "events": [new_id() for _ in statuses],
            "accounts": [account_id] * len(statuses),
            "inboxes": [inbox_id] * len(statuses),
            "senders": [status.sender.id for status in statuses],
            "bodies": [status.model_dump_json(exclude_none=True) for status in statuses],
        },
    )


async def reports(tx: Tx, limit: int) -> Sequence[Any]:
    """The oldest reports that wait, locked."""
    return (await tx.execute(_REPORTS, {"limit": limit})).all()


async def forget_reports(tx: Tx, ids: Sequence[int]) -> None:
    """They are on the bus."""
    await tx.execute(_FORGET_REPORTS, {"ids": list(ids)})


async def add_reply(tx: Tx, account_id: str, message: OutboundMessage) -> int | None:
    """Show a reply to its visitor; its position, None when it was there already."""
    # One writer a visitor: then the order of positions is the order of commits, and reading on from one misses nothing.
    await tx.execute(_SERIALISE, {"visitor": message.recipient_id})
    added = await tx.execute(
        _ADD_REPLY,
        {
            "id": message.message_id,
            "account": account_id,
            "inbox": message.inbox_id,
            "visitor": message.recipient_id,
            "name": message.author_name,
            "body": message.text,
            "attachments": json.dumps([one.model_dump(mode="json") for one in message.attachments]),
            "at": message.created_at,
        },
    )
    position: int | None = added.scalar()
    return position


async def add_said(
    tx: Tx, account_id: str, inbox_id: str, visitor_id: str, *, client_id: str, name: str, body: str, at: datetime
) -> Any:
    """Keep what a visitor wrote; answers the row, the earlier one when the widget sent it before."""
    await tx.execute(_SERIALISE, {"visitor": visitor_id})
    added = await tx.execute(
        _ADD_SAID,
        {
            "id": new_id(),
            "account": account_id,
            "inbox": inbox_id,
            "visitor": visitor_id,
            "client": client_id,
            "name": name,
            "body": body,
            "at": at,
        },
    )
    return added.mappings().one()


async def said(tx: Tx, id_: str) -> None:
    """What the visitor wrote is on the bus."""
    await tx.execute(_SAID, {"id": id_})


async def messages(tx: Tx, inbox_id: str, visitor_id: str, after: int, limit: int) -> Sequence[Any]:
    """What a visitor and the team said after a position, in order."""
    where = {"inbox": inbox_id, "visitor": visitor_id, "after": after, "limit": limit}
    return (await tx.execute(_MESSAGES, where)).mappings().all()


async def change(tx: Tx, update: OutboundUpdate) -> bool:
    """Edit or delete a reply that its visitor has; tells whether there is such a reply. A deleted one stays so."""
    await tx.execute(_SERIALISE, {"visitor": update.recipient_id})
    where = {"id": update.of_message_id, "inbox": update.inbox_id, "visitor": update.recipient_id}
    told = {"delete": update.update == "delete", "body": update.new_text, "at": update.updated_at}
    if (await tx.execute(_CHANGE, where | told)).rowcount:
        return True
    return (await tx.execute(_THERE, where)).first() is not None


async def changed(tx: Tx, inbox_id: str, visitor_id: str, after: int, until: int, limit: int) -> Sequence[Any]:  # noqa: PLR0917
    """Replies up to a position that were changed since a change, in the order of the changes."""
    where = {"inbox": inbox_id, "visitor": visitor_id, "after": after, "until": until, "limit": limit}
    return (await tx.execute(_CHANGED, where)).mappings().all()


async def reached(tx: Tx, inbox_id: str, visitor_id: str, until: int, status: str) -> list[str]:
    """Replies up to a position were delivered or read; ids of those of which that is news, in order."""
    before = ["sent"] if status == "delivered" else ["sent", "delivered"]
    where = {"inbox": inbox_id, "visitor": visitor_id, "until": until, "status": status, "before": before}
    rows = (await tx.execute(_REACHED, where)).all()
    return [row.id for row in sorted(rows, key=lambda row: row.position)]
