"""Erasing a person from every table of this service, and from its log."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.profile import Person
from relevo.conversation.store.rows import Row, plain

LOG_ROWS: Final = 5_000
"""Rows of the outbox that are looked through in one transaction."""

_ALSO = text(
    """
    with recursive merged(id) as (
        select other_id from contact_merges
        where account_id = cast(:account as uuid) and base_id = cast(:contact as uuid) and undone_at is null
        union
        select m.other_id from contact_merges m join merged on merged.id = m.base_id
        where m.account_id = cast(:account as uuid) and m.undone_at is null
    )
    select cast(id as text) from merged
    """
)
_IDS: Final = "account_id = cast(:account as uuid) and conversation_id = any(cast(:conversations as uuid[]))"
_CONTACTS: Final = "account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid)"
_MESSAGES: Final = f"""(
    select id from messages where {_IDS}
    union all
    select id from messages where account_id = cast(:account as uuid) and withheld_from = cast(:contact as uuid)
)"""
# In this order: what hangs on messages first.
_STATEMENTS: Final = tuple(
    text(statement)
    for statement in (
        f"delete from message_edits where account_id = cast(:account as uuid) and message_id in {_MESSAGES}",
        f"""
        update files set forgotten = true, name = ''
        where account_id = cast(:account as uuid) and message_id in {_MESSAGES}
        """,
        f"""
        update messages set text = '', attachments = '[]', external_id = null, error = null,
            author_name = case when kind = 'incoming' then '' else author_name end,
            activity = case activity ->> 'code'
                when 'subject' then activity || '{{"from": "", "to": ""}}'
                when 'attributes' then activity || '{{"to": {{}}}}'
                when 'change_refused' then activity || '{{"to": ""}}'
                when 'forwarded' then activity || '{{"to": []}}'
                else activity end
        where id in {_MESSAGES}
        """,
        f"delete from waiting_messages where {_IDS}",
        f"delete from drafts where {_IDS}",
        f"update surveys set comment = '', answer_until = least(answer_until, now()), change_days = 0 where {_IDS}",
        f"delete from reminders where {_IDS}",
        """
        update conversations set subject = '', attributes = '{}', source_id = 'erased-' || id, recipient_key = cast(id as text)
        where account_id = cast(:account as uuid) and id = any(cast(:conversations as uuid[]))
        """,
        f"delete from contact_channels where {_CONTACTS}",
        f"delete from contact_notes where {_CONTACTS}",
        f"delete from contact_activity where {_CONTACTS}",
        f"delete from contact_import_previews where {_CONTACTS}",
        """
        update contact_merges set base = '{}', other = '{}', channels = '[]', merged_at = 'epoch'
        where account_id = cast(:account as uuid)
            and (base_id = any(cast(:all as uuid[])) or other_id = any(cast(:all as uuid[])))
        """,
        """
        delete from contact_import_failures
        where account_id = cast(:account as uuid) and exists (
            select 1 from unnest(cast(:known as text[])) k where strpos(lower(array_to_string(cells, ' ') || cast(faults as text)), k) > 0
        )
        """,
        """
        delete from idempotency where account_id = cast(:account as text) and exists (
            select 1 from unnest(cast(:all as text[]) || cast(:conversations as text[])) k
            where strpos(cast(response as text), k) > 0
        )
        """,
        "update contacts set erased_at = now() where account_id = cast(:account as uuid) and id = cast(:contact as uuid)",
    )
)
_ADD = text(
    """
    insert into contact_erasures (contact_id, account_id, actor, actor_name, entities, last_id, asked_at)
    select cast(:contact as uuid), cast(:account as uuid), :actor, :actor_name, cast(:entities as text[]),
        coalesce(max(id), 0), now()
    from outbox
    """
)
_READ = text(
    """
    select cast(contact_id as text) as contact_id, actor, actor_name, next_id, last_id, redacted, asked_at, done_at
    from contact_erasures where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid)
    """
)
_TAKE = text(
    """
    select cast(contact_id as text) as contact_id, cast(account_id as text) as account_id, entities, next_id, last_id
    from contact_erasures where done_at is null order by asked_at limit 1 for update skip locked
    """
)
# Not a cursor that could pass by what commits late: whoever wrote of the person held their row or their conversation's
# until the commit, and the erasure held all of these when it noted the last id.
_LOG = text(
    """
    select id, created_at, headers, body from outbox where id between :after + 1 and :last order by id limit :limit
    """
)
_REWRITE = text(
    """
    update outbox o set body = k.body
    from unnest(cast(:ids as bigint[]), cast(:times as timestamptz[]), cast(:bodies as bytea[])) as k(id, created_at, body)
    where o.id = k.id and o.created_at = k.created_at
    """
)
_PROGRESS = text(
    """
    update contact_erasures
    set entities = cast(:entities as text[]), next_id = :next, redacted = redacted + :redacted, done_at = case when :done then now() end
    where contact_id = cast(:contact as uuid) and account_id = cast(:account as uuid)
    """
)


async def also(tx: Tx, account_id: str, contact_id: str) -> list[str]:
    """The ids of those that were merged into a contact, at any time."""
    return list((await tx.execute(_ALSO, {"account": account_id, "contact": contact_id})).scalars())


async def erase(tx: Tx, person: Person, also_: Sequence[str], conversations: Sequence[str]) -> None:
    """Take what is personal out of every row of a contact that is locked, and of their conversations, locked too."""
    known = [value.lower() for value in (person.email, person.phone, person.identifier) if value]
    asked: dict[str, Any] = {
        "account": person.account_id,
        "contact": person.id,
        "all": [person.id, *also_],
        "conversations": list(conversations),
        "known": [*known, *(value.removeprefix("+") for value in known if value.startswith("+"))],
    }
    for statement in _STATEMENTS:
        await tx.execute(statement, asked)


async def add(tx: Tx, person: Person, entities: Sequence[str], *, actor: str, actor_name: str) -> None:
    """Have the log gone through, up to what it holds by now."""
    asked = {"contact": person.id, "account": person.account_id, "entities": list(entities)}
    await tx.execute(_ADD, asked | {"actor": actor, "actor_name": actor_name})


async def read(tx: Tx, account_id: str, contact_id: str) -> Row | None:
    """How far an erasure is."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "contact": contact_id})), None)


async def take(tx: Tx) -> Row | None:
    """An erasure whose log is not gone through, and that nobody works on at this moment, locked."""
    return next(plain(await tx.execute(_TAKE)), None)


async def log(tx: Tx, after: int, last: int) -> Sequence[Row]:
    """The next rows of the outbox."""
    return list(plain(await tx.execute(_LOG, {"after": after, "last": last, "limit": LOG_ROWS})))


async def rewrite(tx: Tx, rows: Sequence[tuple[Row, bytes]]) -> None:
    """Rows of the outbox have other bodies from now on."""
    if rows:
        asked = {
            "ids": [row["id"] for row, _ in rows],
            "times": [row["created_at"] for row, _ in rows],
            "bodies": [body for _, body in rows],
        }
        await tx.execute(_REWRITE, asked)


async def progress(tx: Tx, job: Row, *, entities: Sequence[str], next_id: int, redacted: int, done: bool) -> None:
    """The log is gone through up to here."""
    asked = {"contact": job["contact_id"], "account": job["account_id"], "next": next_id, "redacted": redacted}
    await tx.execute(_PROGRESS, asked | {"entities": list(entities), "done": done})
