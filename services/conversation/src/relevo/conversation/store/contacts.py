"""Contacts, and the channels that they write from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain.contacts import NewContact, Sighting
from relevo.conversation.store.rows import LostRace, Row, json_list, plain

CONTACT_COLUMNS: Final = "cast(p.id as text) as contact_id, p.name, p.email, p.phone, p.language as contact_language, p.labels as contact_labels, p.blocked, cast(p.owner_id as text) as contact_owner_id, cast(p.owner_team_id as text) as contact_owner_team_id, p.company as contact_company, p.city as contact_city, p.country as contact_country, p.attributes as contact_attributes"

# What was imported is no place to write to, until somebody of the team opened it again.
# The account of a conversation is compared outside of its lateral join: within, a planner without statistics takes the
# index of the whole inbox for as good as the one of the sender.
_FIND_SENDERS = text(
    f"""
    select k.n, cast(v.id as text) as conversation_id, ch.contact_id is not null as channel_known, {CONTACT_COLUMNS}
    from unnest(
        cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:sources as text[]),
        cast(:emails as text[]), cast(:phones as text[])
    ) with ordinality as k(account_id, inbox_id, source_id, email, phone, n)
    left join contact_channels ch
        on ch.inbox_id = k.inbox_id and ch.source_id = k.source_id and ch.account_id = k.account_id
    left join lateral (
        select e.id from contacts e
        where ch.contact_id is null and e.account_id = k.account_id and e.email = k.email
    ) by_email on true
    left join lateral (
        select f.id from contacts f
        where ch.contact_id is null and f.account_id = k.account_id and f.phone = k.phone
    ) by_phone on true
    left join contacts p on p.id = coalesce(ch.contact_id, by_email.id, by_phone.id)
    left join lateral (
        select c.id, c.account_id from conversations c
        where c.inbox_id = k.inbox_id and c.source_id = k.source_id and c.merged_into is null
            and (c.imported_through = 0 or c.cycle > 1)
        order by c.status = 'resolved', c.opened_at desc, c.number desc limit 1
    ) v on v.account_id = k.account_id and ch.contact_id is not null
    order by k.n
    """
)

_ADD_CONTACTS = text(
    """
    insert into contacts (id, account_id, name, email, phone, language, sequence, created_at)
    select r.id, r.account_id, r.name, r.email, r.phone, r.language, 1, :now
    from rows from (
        json_to_recordset(cast(:contacts as json)) as (id uuid, name text, email text, phone text, language text),
        unnest(cast(:accounts as uuid[]))
    ) as r(id, name, email, phone, language, account_id)
    order by r.account_id, r.email, r.phone
    on conflict do nothing
    returning cast(id as text)
    """
)

_ADD_CHANNELS = text(
    """
    insert into contact_channels (account_id, inbox_id, source_id, recipient_key, contact_id, created_at)
    select k.account_id, k.inbox_id, k.source_id, k.recipient_key, k.contact_id, :now
    from unnest(
        cast(:accounts as uuid[]), cast(:inboxes as uuid[]), cast(:sources as text[]),
        cast(:keys as text[]), cast(:contacts as uuid[])
    ) as k(account_id, inbox_id, source_id, recipient_key, contact_id)
    order by k.inbox_id, k.source_id
    on conflict do nothing
    """
)

_CHANNELS = text(
    """
    select cast(inbox_id as text) as inbox_id, source_id from contact_channels
    where account_id = :account and contact_id = :contact order by created_at, inbox_id, source_id
    """
)


@dataclass(frozen=True, slots=True)
class Found:
    """What the database knows of a sender: their contact, and the conversation where they wrote last, if any."""

    contact: ContactSnapshot | None
    channel_known: bool
    conversation_id: str | None


def contact_of(row: Mapping[str, Any]) -> ContactSnapshot:
    """The contact within a row that has CONTACT_COLUMNS."""
    return ContactSnapshot(
        id=row["contact_id"],
        name=row["name"],
        email=row["email"],
        phone=row["phone"],
        language=row["contact_language"],
        labels=row["contact_labels"],
        blocked=row["blocked"],
        owner_id=row["contact_owner_id"],
        owner_team_id=row["contact_owner_team_id"],
        company=row["contact_company"],
        city=row["contact_city"],
        country=row["contact_country"],
        attributes=row["contact_attributes"],
    )


async def find_senders(tx: Tx, sightings: Sequence[Sighting]) -> list[Found]:
    """What is known of every sender, in the order asked."""
    if not sightings:
        return []
    rows = await tx.execute(
        _FIND_SENDERS,
        {
            "accounts": [s.account_id for s in sightings],
            "inboxes": [s.inbox_id for s in sightings],
            "sources": [s.source_id for s in sightings],
            "emails": [s.email for s in sightings],
            "phones": [s.phone for s in sightings],
        },
    )
    return [
        Found(contact_of(row) if row["contact_id"] else None, row["channel_known"], row["conversation_id"])
        for row in plain(rows)
    ]


async def add_contacts(tx: Tx, new: Sequence[NewContact], now: datetime) -> set[str]:
    """Insert contacts; answers the ids that were. One that is missing met the e-mail or phone of another just made."""
    if not new:
        return set()
    rows = await tx.execute(
        _ADD_CONTACTS,
        {
            "contacts": json_list(n.contact.model_dump_json() for n in new),
            "accounts": [n.sighting.account_id for n in new],
            "now": now,
        },
    )
    return set(rows.scalars())


async def add_channels(tx: Tx, links: Sequence[tuple[Sighting, ContactSnapshot]], now: datetime) -> None:
    """Remember who writes from where. Raises LostRace when another door linked one of them just now."""
    if not links:
        return
    result = await tx.execute(
        _ADD_CHANNELS,
        {
            "accounts": [s.account_id for s, _ in links],
            "inboxes": [s.inbox_id for s, _ in links],
            "sources": [s.source_id for s, _ in links],
            "keys": [s.recipient_key for s, _ in links],
            "contacts": [c.id for _, c in links],
            "now": now,
        },
    )
    if result.rowcount != len(links):
        raise LostRace("a sender's channel was linked by another transaction")


async def channels(tx: Tx, account_id: str, contact_id: str) -> Sequence[Row]:
    """From where a contact writes."""
    return list(plain(await tx.execute(_CHANNELS, {"account": account_id, "contact": contact_id})))
