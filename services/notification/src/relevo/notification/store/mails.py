"""E-mails that wait, were sent or given up, and the addresses that bounce."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class NewMail:
    """An e-mail to be sent from `next_at` on; `error` set: it never will be, and that is why.

    `agent_id` set: it is of the kinds that this agent can do without, and goes to their address of the moment, if they
    have not read `notification_id` by then and may still see `conversation_id`.
    """

    id: str
    account_id: str
    dedup_key: str
    recipient: str
    subject: str
    body_text: str
    body_html: str
    created_at: datetime
    next_at: datetime
    useless_after: datetime | None = None
    error: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    notification_id: str | None = None
    file_name: str | None = None
    file: str | None = None
    """A PDF, as base64."""


# One that waits for the same person and conversation says the newer thing instead, when it was to be sent anyway.
_ADD = text("""
    with n as (
        select * from unnest(
            cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:dedup_keys as text[]), cast(:recipients as text[]),
            cast(:subjects as text[]), cast(:texts as text[]), cast(:htmls as text[]), cast(:created as timestamptz[]),
            cast(:next as timestamptz[]), cast(:useless as timestamptz[]), cast(:errors as text[]),
            cast(:agents as uuid[]), cast(:conversations as uuid[]), cast(:notifications as uuid[]),
            cast(:file_names as text[]), cast(:files as text[]))
        as n(id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, next_at, useless_after,
             error, agent_id, conversation_id, notification_id, file_name, file)
        where not exists (
            select from mails m where m.account_id = n.account_id and m.dedup_key = n.dedup_key)
    ), moved as (
        update mails m set dedup_key = n.dedup_key, subject = n.subject, body_text = n.body_text,
            body_html = n.body_html, notification_id = n.notification_id
        from n
        where m.state = 'waiting' and m.attempts = 0 and n.error is null and m.account_id = n.account_id
          and m.agent_id = n.agent_id and m.conversation_id = n.conversation_id
        returning n.id
    )
    insert into mails (id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, next_at,
                       useless_after, error, state, agent_id, conversation_id, notification_id, file_name, file)
    select id, account_id, dedup_key, recipient, subject, body_text, body_html, created_at, next_at,
           useless_after, error, case when error is null then 'waiting' else 'dropped' end,
           agent_id, conversation_id, notification_id, file_name, file
    from n where id not in (select id from moved)
    on conflict (account_id, dedup_key) do nothing
""")
# The claim: an attempt that dies with its process is made again when the claim runs out.
_CLAIM = text("""
    with due as (
        update mails set attempts = attempts + 1, next_at = now() + make_interval(secs => :claim)
        where id in (
            select id from mails where state = 'waiting' and next_at <= now() order by next_at limit :limit
            for update skip locked)
        returning *
    )
    select cast(due.id as text) as id, cast(due.account_id as text) as account_id, recipient, subject, body_text,
           body_html, attempts, useless_after, due.created_at, cast(due.agent_id as text) as agent_id,
           cast(due.conversation_id as text) as conversation_id, file_name, file, n.read_at is not null as seen
    from due left join notifications n on n.id = due.notification_id
""")
# What was sent is not kept: it may hold a link that lets its bearer in.
_SENT = text("""
    update mails set state = 'sent', sent_at = now(), next_at = null, error = null, body_text = '', body_html = '',
        file = null
    where id = cast(:id as uuid)
""")
_GIVE_UP = text("""
    update mails set state = :state, next_at = null, error = :error, body_text = '', body_html = '', file = null
    where id = cast(:id as uuid)
""")
_AGAIN = text("""
    update mails set next_at = now() + make_interval(secs => :delay), error = :error where id = cast(:id as uuid)
""")
_BOUNCE = text("""
    insert into bounces (account_id, address, at, reason) values (cast(:account as uuid), lower(:address), now(), :reason)
    on conflict (account_id, address) do update set at = excluded.at, reason = excluded.reason
""")
_NO_BOUNCE = text("delete from bounces where account_id = cast(:account as uuid) and address = lower(:address)")
_BOUNCES = text("""
    select cast(account_id as text) as account_id, address, at, reason from bounces
    where account_id = any(cast(:accounts as uuid[])) and address = any(cast(:addresses as text[]))
""")
_FORGET_BATCH: Final = 5000
_FORGET = text("""
    delete from mails where id in (
        select id from mails where created_at < :before and state <> 'waiting' order by created_at limit :limit)
""")


async def add(tx: Tx, rows: Sequence[NewMail]) -> None:
    """Have these e-mails sent, each once per dedup key; of several to one person of one conversation the last."""
    last: dict[tuple[str, ...], NewMail] = {}
    for row in rows:
        last[(row.agent_id, row.conversation_id) if row.agent_id and row.conversation_id else (row.id,)] = row
    mails = list(last.values())
    if not mails:
        return
    await tx.execute(
        _ADD,
        {
            "ids": [row.id for row in mails],
            "accounts": [row.account_id for row in mails],
            "dedup_keys": [row.dedup_key for row in mails],
            "recipients": [row.recipient for row in mails],
            "subjects": [row.subject for row in mails],
            "texts": [row.body_text for row in mails],
            "htmls": [row.body_html for row in mails],
            "created": [row.created_at for row in mails],
            "next": [row.next_at for row in mails],
            "useless": [row.useless_after for row in mails],
            "errors": [row.error for row in mails],
            "agents": [row.agent_id for row in mails],
            "conversations": [row.conversation_id for row in mails],
            "notifications": [row.notification_id for row in mails],
            "file_names": [row.file_name for row in mails],
            "files": [row.file for row in mails],
        },
    )


async def claim(tx: Tx, limit: int, lease: timedelta) -> Sequence[Any]:
    """Due e-mails, which nobody else tries until the lease runs out; `attempts` counts this one."""
    return (await tx.execute(_CLAIM, {"limit": limit, "claim": lease.total_seconds()})).all()


async def sent(tx: Tx, id_: str) -> None:
    """The mail server took it."""
    await tx.execute(_SENT, {"id": id_})


async def given_up(tx: Tx, id_: str, state: str, error: str) -> None:
    """It will not be tried again: `failed`, or `dropped` when it came to be worth nothing."""
    await tx.execute(_GIVE_UP, {"id": id_, "state": state, "error": error})


async def again(tx: Tx, id_: str, delay: timedelta, error: str) -> None:
    """It is tried again after this while."""
    await tx.execute(_AGAIN, {"id": id_, "delay": delay.total_seconds(), "error": error})


async def bounced(tx: Tx, account_id: str, address: str, reason: str) -> None:
    """A mail server refused this address for good."""
    await tx.execute(_BOUNCE, {"account": account_id, "address": address, "reason": reason})


async def not_bounced(tx: Tx, account_id: str, address: str) -> None:
    """A mail server took something for this address."""
    await tx.execute(_NO_BOUNCE, {"account": account_id, "address": address})


async def bounces(tx: Tx, accounts: Collection[str], addresses: Collection[str]) -> dict[tuple[str, str], Any]:
    """Which of these addresses are refused, by account and address in lower case."""
    wanted = {"accounts": sorted(accounts), "addresses": sorted({address.lower() for address in addresses})}
    return {(row.account_id, row.address): row for row in await tx.execute(_BOUNCES, wanted)}


async def forget(tx: Tx, before: datetime) -> bool:
    """Delete what is done and older, a batch at most; tells whether more may be left."""
    return (await tx.execute(_FORGET, {"before": before, "limit": _FORGET_BATCH})).rowcount == _FORGET_BATCH
