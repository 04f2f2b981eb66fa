"""What this service holds of people: inbound messages that wait, were refused or came twice, and others' dead letters."""

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.erasing import Held, Person, Personal
from relevo.kernel.identity import InvalidIdentity, sender_key

_PAGE: Final = 200
_FIRST: Final = "00000000-0000-0000-0000-000000000000"

_REFUSED = text(
    f"""
    select cast(id as text) as id, inbox_id, body from quarantine
    where account_id = :account and inbox_id = any(cast(:inboxes as text[])) and id > cast(:after as uuid)
    order by id limit {_PAGE}
    """
)
_FORGET_REFUSED = text("delete from quarantine where account_id = :account and id = any(cast(:ids as uuid[]))")
_CONFLICTS = text(
    """
    select cast(inbox_id as text) as inbox_id, dedup_key, body_hash, cast(body as text) as body from conflicts
    where account_id = cast(:account as uuid) and inbox_id = any(cast(:inboxes as uuid[]))
    """
)
_FORGET_CONFLICT = text(
    """
    delete from conflicts
    where account_id = cast(:account as uuid) and inbox_id = cast(:inbox as uuid) and dedup_key = :key and body_hash = :hash
    """
)
_LETTERS = text(
    f"""
    select cast(id as text) as id, subject, cast(headers as text) as headers, body from dead_letters_seen
    where account_id = any(cast(array[:account, 'unknown'] as text[])) and body <> '' and id > cast(:after as uuid)
    order by id limit {_PAGE}
    """
)
_UNSAY = text(
    """
    update dead_letters_seen set subject = '', headers = '{}', body = '', error = ''
    where account_id = any(cast(array[:account, 'unknown'] as text[])) and id = any(cast(:ids as uuid[]))
    """
)


def _who_wrote(body: bytes) -> str | None:
    """The key of whoever a message that was refused says it is of, if it says so at all."""
    try:
        said: Any = json.loads(body)
        return sender_key(said["sender"]["id"])
    except (ValueError, LookupError, TypeError, AttributeError, InvalidIdentity):
        return None


async def forget(tx: Tx, person: Person) -> None:
    """What only its own body tells to be theirs."""
    asked, known = person.parameters(), set(person.senders)
    after = _FIRST
    while rows := (await tx.execute(_REFUSED, asked | {"after": after})).all():
        theirs = [row.id for row in rows if (row.inbox_id, _who_wrote(bytes(row.body))) in known]
        if theirs:
            await tx.execute(_FORGET_REFUSED, asked | {"ids": theirs})
        after = rows[-1].id
    for row in await tx.execute(_CONFLICTS, asked):
        if (row.inbox_id, _who_wrote(row.body.encode())) in known:
            one = {"inbox": row.inbox_id, "key": row.dedup_key, "hash": row.body_hash}
            await tx.execute(_FORGET_CONFLICT, asked | one)
    after = _FIRST
    await tx.enter(person.account_id, "unknown")
    while rows := (await tx.execute(_LETTERS, asked | {"after": after})).all():
        theirs = [row.id for row in rows if concerned((person,), row.subject, row.headers, bytes(row.body))]
        if theirs:
            await tx.execute(_UNSAY, asked | {"ids": theirs})
        after = rows[-1].id
    await tx.enter(person.account_id)


def concerned(people: Iterable[Person], subject: str, headers: str, body: bytes) -> bool:
    """Whether a dead letter tells of any of these people."""
    return any(person.concerned(subject.encode(), headers.encode(), body) for person in people)


_BY_SUBJECT: Final = """
    account_id = :account and exists (
        select 1 from unnest(cast(:inboxes as text[]), cast(:keys as text[])) as k(inbox, key)
        where strpos(subject, '.' || k.inbox || '.' || k.key || '.') > 0
    )
"""

PERSONAL: Final = Personal(
    held=(
        Held("deferred", ("subject", "headers", "body"), _BY_SUBJECT + " and at <= :asked_at"),
        Held("quarantine", ("subject", "faults", "body", "resolution"), _BY_SUBJECT),
    ),
    also=forget,
    also_columns={
        "quarantine": ("subject", "faults", "body", "resolution"),
        "conflicts": ("body", "external_id"),
        "dead_letters_seen": ("subject", "headers", "body", "error"),
    },
    plain={
        # Digests are kept for ever: they are what makes a repetition one.
        "ledger": ("dedup_key", "body_hash"),
        "conflicts": ("dedup_key", "body_hash"),
        "senders": ("sender_key",),
        "quarantine": ("account_id", "inbox_id", "fingerprint", "reason", "state", "resolved_by"),
        "deferred": ("account_id",),
        "dead_letters_seen": ("account_id", "body_encoding", "reason", "service", "state", "stream"),
        "inboxes": ("changes", "channel", "name", "phone_region", "reopen", "survey", "webhook_url"),
    },
)
