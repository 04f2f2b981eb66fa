"""Erasing a person from every table of this service, and who of the others has done so."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.erasing import Person
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import HOLDERS
from relevo.contracts.erasure import ErasePerson
from relevo.contracts.grants import swept_by
from relevo.conversation.store.rows import Row, plain

SWEEPERS: Final = tuple(service for service in HOLDERS if swept_by(service))
"""The services that keep streams which others fill."""

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
_CONTACTS: Final = "account_id = cast(:account as uuid) and contact_id = any(cast(:contacts as uuid[]))"
_MESSAGES: Final = f"""(
    select id from messages where {_IDS}
    union all
    select id from messages where account_id = cast(:account as uuid) and withheld_from = any(cast(:contacts as uuid[]))
)"""
# Conversations are locked before what hangs from them, by every door, or two that meet wait for one another.
_STATEMENTS: Final = tuple(
    text(statement)
    for statement in (
        """
        select from conversations where account_id = cast(:account as uuid) and id = any(cast(:conversations as uuid[]))
        order by id for update
        """,
        f"delete from message_edits where account_id = cast(:account as uuid) and message_id in {_MESSAGES}",
        f"""
        update files set forgotten = true, name = ''
        where account_id = cast(:account as uuid) and message_id in {_MESSAGES}
        """,
        f"""
        update messages set text = '', attachments = '[]', external_id = null, error = null,
            reply_to = case when kind = 'incoming' then null else reply_to end,
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
        where base <> '{}' and account_id = cast(:account as uuid)
            and (base_id = any(cast(:contacts as uuid[])) or other_id = any(cast(:contacts as uuid[])))
        """,
        """
        delete from contact_import_failures
        where account_id = cast(:account as uuid) and exists (
            select 1 from unnest(cast(:known as text[])) k where strpos(lower(array_to_string(cells, ' ') || cast(faults as text)), k) > 0
        )
        """,
        """
        update deleted_conversations set reason = ''
        where account_id = cast(:account as uuid) and id = any(cast(:conversations as uuid[])) and reason <> ''
        """,
        "update contacts set erased_at = coalesce(erased_at, now()) where account_id = cast(:account as uuid) and id = cast(:contact as uuid)",
    )
)
_SENDERS = text(
    """
    select cast(inbox_id as text) as inbox_id, recipient_key from contact_channels
    where account_id = cast(:account as uuid) and contact_id = any(cast(:contacts as uuid[]))
    union
    select cast(inbox_id as text), recipient_key from conversations
    where account_id = cast(:account as uuid) and id = any(cast(:conversations as uuid[]))
    """
)
_DELETED = text(
    """
    select cast(id as text) from deleted_conversations
    where account_id = cast(:account as uuid) and contact_id = any(cast(:contacts as uuid[]))
    """
)
_ADD = text(
    """
    insert into contact_erasures (contact_id, account_id, erasure_id, actor, actor_name, asked_at)
    values (cast(:contact as uuid), cast(:account as uuid), cast(:erasure as uuid), :actor, :actor_name, :asked_at)
    """
)
_PARTS = text(
    """
    insert into contact_erasure_parts (contact_id, account_id, service, sweep)
    select cast(:contact as uuid), cast(:account as uuid), * from unnest(
        cast(:services as text[]), cast(:sweeps as boolean[]))
    on conflict do nothing
    """
)
_READ = text(
    """
    select cast(contact_id as text) as contact_id, actor, actor_name, asked_at, done_at
    from contact_erasures where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid)
    """
)
_READ_PARTS = text(
    """
    select service, sweep, done_at from contact_erasure_parts
    where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid) order by sweep, service
    """
)
_PART = text(
    """
    update contact_erasure_parts set done_at = now()
    where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid) and service = :service
        and sweep = :sweep and done_at is null
    """
)
# Locked, so that of two who are the last one sees the other.
_LOCK = text(
    """
    select cast(erasure_id as text) as erasure_id from contact_erasures
    where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid) and done_at is null for update
    """
)
_DONE = text(
    """
    update contact_erasures set done_at = now()
    where account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid)
    """
)


async def also(tx: Tx, account_id: str, contact_id: str) -> list[str]:
    """The ids of those that were merged into a contact, at any time."""
    return list((await tx.execute(_ALSO, {"account": account_id, "contact": contact_id})).scalars())


async def senders(
    tx: Tx, account_id: str, contacts: Sequence[str], conversations: Sequence[str]
) -> list[tuple[str, str]]:
    """As whom channels know these contacts: inbox and sender key."""
    given = {"account": account_id, "contacts": list(contacts), "conversations": list(conversations)}
    return sorted((row.inbox_id, row.recipient_key) for row in await tx.execute(_SENDERS, given))


async def deleted(tx: Tx, account_id: str, contacts: Sequence[str]) -> list[str]:
    """The conversations of these contacts that were deleted before."""
    return list((await tx.execute(_DELETED, {"account": account_id, "contacts": list(contacts)})).scalars())


async def erase(tx: Tx, person: Person, known: Sequence[str] = ()) -> None:
    """Take what is personal out of every row of contacts and of their conversations; twice changes nothing.

    ``known`` are addresses, numbers and identifiers by which rows are found that no id names.
    """
    lower = [value.lower() for value in known]
    asked = person.parameters() | {
        "known": [*lower, *(value.removeprefix("+") for value in lower if value.startswith("+"))]
    }
    for statement in _STATEMENTS:
        await tx.execute(statement, asked)


async def add(tx: Tx, account_id: str, told: ErasePerson, *, actor: str, actor_name: str) -> None:
    """Note who asked, and which services must say that they have done it."""
    key = {"account": account_id, "contact": told.contact_id}
    given = {"erasure": told.erasure_id, "actor": actor, "actor_name": actor_name, "asked_at": told.asked_at}
    await tx.execute(_ADD, key | given)
    await _expect(tx, key, HOLDERS, sweep=False)


async def _expect(tx: Tx, key: dict[str, str], services: Sequence[str], *, sweep: bool) -> None:
    given = {"services": list(services), "sweeps": [sweep] * len(services)}
    await tx.execute(_PARTS, key | given)


async def read(tx: Tx, account_id: str, contact_id: str) -> Row | None:
    """Who asked for an erasure, and when it was done."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "contact": contact_id})), None)


async def parts(tx: Tx, account_id: str, contact_id: str) -> Sequence[Row]:
    """Which services have done their part, and when."""
    return list(plain(await tx.execute(_READ_PARTS, {"account": account_id, "contact": contact_id})))


async def part_done(tx: Tx, account_id: str, contact_id: str, service: str, *, sweep: bool) -> tuple[str, str] | None:
    """A service has done its part. Once all have, answers the erasure's id and that of the sweep that follows it."""
    key = {"account": account_id, "contact": contact_id}
    job = (await tx.execute(_LOCK, key)).first()
    if job is None:
        return None
    await tx.execute(_PART, key | {"service": service, "sweep": sweep})
    there = await parts(tx, account_id, contact_id)
    if any(row["done_at"] is None for row in there):
        return None
    if any(row["sweep"] for row in there):
        await tx.execute(_DONE, key)
        return None
    await _expect(tx, key, SWEEPERS, sweep=True)
    return job.erasure_id, new_id()
