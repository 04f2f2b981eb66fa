"""All SQL of the service."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.notification.domain.deciding import Choice


@dataclass(frozen=True, slots=True)
class NewNotification:
    """A row of somebody's list."""

    id: str
    account_id: str
    agent_id: str
    kind: str
    dedup_key: str
    conversation_id: str | None
    title: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewMail:
    """An e-mail to be sent; `error` set: it never will be, and that is why."""

    id: str
    account_id: str
    dedup_key: str
    recipient: str
    subject: str
    body_text: str
    body_html: str
    created_at: datetime
    useless_after: datetime | None = None
    error: str | None = None


_ADD_NOTIFICATIONS = text("""
    insert into notifications (id, account_id, agent_id, kind, dedup_key, conversation_id, title, body, created_at)
    select * from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:kinds as text[]),
        cast(:dedup_keys as text[]), cast(:conversations as uuid[]), cast(:titles as text[]), cast(:bodies as text[]),
        cast(:created as timestamptz[]))
    on conflict (account_id, dedup_key) do nothing
    returning cast(id as text) as id
""")
_ADD_MAILS = text("""
    insert into mails (id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, next_at,
                       useless_after, error, state)
    select id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, created_at,
           useless_after, error, case when error is null then 'waiting' else 'dropped' end
    from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:dedup_keys as text[]), cast(:recipients as text[]),
        cast(:subjects as text[]), cast(:texts as text[]), cast(:htmls as text[]), cast(:created as timestamptz[]),
        cast(:useless as timestamptz[]), cast(:errors as text[]))
        as n(id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, useless_after, error)
    on conflict (account_id, dedup_key) do nothing
""")
_CHOICES = text("""
    select cast(agent_id as text) as agent_id, kind, in_app, email from preferences
    where agent_id = any(cast(:agents as uuid[]))
""")
_SAVE_CHOICES = text("""
    insert into preferences (account_id, agent_id, kind, in_app, email)
    select cast(:account as uuid), cast(:agent as uuid), * from unnest(
        cast(:kinds as text[]), cast(:in_app as boolean[]), cast(:email as boolean[]))
    on conflict (agent_id, kind) do update set in_app = excluded.in_app, email = excluded.email
""")
_LIST = text("""
    select cast(id as text) as id, kind, cast(conversation_id as text) as conversation_id, title, body, created_at,
           read_at
    from notifications
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
      and (cast(:after_id as uuid) is null or (read_at is not null) > :after_read
           or ((read_at is not null) = :after_read and id < cast(:after_id as uuid)))
    order by read_at is not null, id desc limit :limit
""")
_UNREAD = text("""
    select count(*) from notifications
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and read_at is null
""")
_READ = text("""
    update notifications set read_at = coalesce(read_at, :now)
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and id = cast(:id as uuid)
    returning cast(id as text) as id, kind, cast(conversation_id as text) as conversation_id, title, body, created_at,
              read_at
""")
_READ_ALL = text("""
    update notifications set read_at = :now
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and read_at is null
""")
# The claim: an attempt that dies with its process is made again when the claim runs out.
_CLAIM = text("""
    update mails set attempts = attempts + 1, next_at = now() + make_interval(secs => :claim)
    where id in (
        select id from mails where state = 'waiting' and next_at <= now() order by next_at limit :limit
        for update skip locked)
    returning cast(id as text) as id, recipient, subject, body_text, body_html, attempts, useless_after, created_at
""")
# What was sent is not kept: it may hold a link that lets its bearer in.
_SENT = text("""
    update mails set state = 'sent', sent_at = now(), next_at = null, error = null, body_text = '', body_html = ''
    where id = cast(:id as uuid)
""")
_GIVE_UP = text("""
    update mails set state = :state, next_at = null, error = :error where id = cast(:id as uuid)
""")
_AGAIN = text("""
    update mails set next_at = now() + make_interval(secs => :delay), error = :error where id = cast(:id as uuid)
""")


async def add_notifications(tx: Tx, rows: Sequence[NewNotification]) -> set[str]:
    """Add those whose dedup key is new; answers their ids."""
    if not rows:
        return set()
    added = await tx.execute(
        _ADD_NOTIFICATIONS,
        {
            "ids": [row.id for row in rows],
            "accounts": [row.account_id for row in rows],
            "agents": [row.agent_id for row in rows],
            "kinds": [row.kind for row in rows],
            "dedup_keys": [row.dedup_key for row in rows],
            "conversations": [row.conversation_id for row in rows],
            "titles": [row.title for row in rows],
            "bodies": [row.body for row in rows],
            "created": [row.created_at for row in rows],
        },
    )
    return set(added.scalars())


async def add_mails(tx: Tx, rows: Sequence[NewMail]) -> None:
    """Have these e-mails sent, each once per dedup key."""
    if not rows:
        return
    await tx.execute(
        _ADD_MAILS,
        {
            "ids": [row.id for row in rows],
            "accounts": [row.account_id for row in rows],
            "dedup_keys": [row.dedup_key for row in rows],
            "recipients": [row.recipient for row in rows],
            "subjects": [row.subject for row in rows],
            "texts": [row.body_text for row in rows],
            "htmls": [row.body_html for row in rows],
            "created": [row.created_at for row in rows],
            "useless": [row.useless_after for row in rows],
            "errors": [row.error for row in rows],
        },
    )


async def choices(tx: Tx, agents: Collection[str]) -> dict[tuple[str, str], Choice]:
    """What these agents chose, by agent and kind."""
    rows = await tx.execute(_CHOICES, {"agents": sorted(agents)})
    return {(row.agent_id, row.kind): Choice(row.in_app, row.email) for row in rows}


async def save_choices(tx: Tx, account_id: str, agent_id: str, chosen: Mapping[str, Choice]) -> None:
    """Keep what an agent chose for these kinds."""
    await tx.execute(
        _SAVE_CHOICES,
        {
            "account": account_id,
            "agent": agent_id,
            "kinds": list(chosen),
            "in_app": [one.in_app for one in chosen.values()],
            "email": [one.email for one in chosen.values()],
        },
    )


async def listed(tx: Tx, account_id: str, agent_id: str, after: tuple[bool, str] | None, limit: int) -> Sequence[Any]:
    """An agent's notifications, unread first, the newest first among each."""
    read, id_ = after or (False, None)
    where = {"account": account_id, "agent": agent_id, "after_read": read, "after_id": id_, "limit": limit}
    return (await tx.execute(_LIST, where)).mappings().all()


async def unread(tx: Tx, account_id: str, agent_id: str) -> int:
    """How many an agent has not read."""
    found: int = (await tx.execute(_UNREAD, {"account": account_id, "agent": agent_id})).scalar_one()
    return found


async def read(tx: Tx, account_id: str, agent_id: str, id_: str, now: datetime) -> Any:
    """Mark one as read; its row, None when the agent has no such one."""
    where = {"account": account_id, "agent": agent_id, "id": id_, "now": now}
    return (await tx.execute(_READ, where)).mappings().first()


async def read_all(tx: Tx, account_id: str, agent_id: str, now: datetime) -> None:
    """Mark all of an agent's as read."""
    await tx.execute(_READ_ALL, {"account": account_id, "agent": agent_id, "now": now})


async def claim_mails(tx: Tx, limit: int, claim: timedelta) -> Sequence[Any]:
    """Due e-mails, which nobody else tries until the claim runs out; `attempts` counts this one."""
    return (await tx.execute(_CLAIM, {"limit": limit, "claim": claim.total_seconds()})).all()


async def mail_sent(tx: Tx, id_: str) -> None:
    """The mail server took it."""
    await tx.execute(_SENT, {"id": id_})


async def mail_given_up(tx: Tx, id_: str, state: str, error: str) -> None:
    """It will not be tried again: `failed`, or `dropped` when it came to be worth nothing."""
    await tx.execute(_GIVE_UP, {"id": id_, "state": state, "error": error})


async def mail_again(tx: Tx, id_: str, delay: timedelta, error: str) -> None:
    """It is tried again after this while."""
    await tx.execute(_AGAIN, {"id": id_, "delay": delay.total_seconds(), "error": error})
