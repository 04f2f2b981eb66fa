"""Contacts as people edit them: whole rows, read, listed and written by the set."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Select, select, text

from relevo.chassis.database import Tx
from relevo.conversation.domain.profile import Person
from relevo.conversation.store.rows import Row, older, plain
from relevo.conversation.tables import contact_activity, contacts

Order = Literal["newest", "active"]
"""The newest first, or those who wrote last first; who never wrote is in the first order only."""

_c = contacts.c
_at = contact_activity.c.at
COLUMNS: Final = (*_c, _at.label("last_activity_at"))
WITH_ACTIVITY: Final = contacts.outerjoin(contact_activity, contact_activity.c.contact_id == _c.id)

_ROWS = """
    json_to_recordset(cast(:persons as json)) as r(
        id uuid, account_id uuid, name text, email text, phone text, language text, labels text[], blocked boolean,
        identifier text, company text, city text, country text, attributes jsonb, owner_id uuid, owner_team_id uuid,
        sequence bigint
    )
"""
# In the order in which the bus's door inserts them too: two that meet wait for each other, not both.
_INSERT = text(
    f"""
    insert into contacts (
        id, account_id, name, email, phone, language, labels, blocked, identifier, company, city, country, attributes,
        owner_id, owner_team_id, sequence, created_at
    )
    select r.id, r.account_id, r.name, r.email, r.phone, r.language, r.labels, r.blocked, r.identifier, r.company,
        r.city, r.country, r.attributes, r.owner_id, r.owner_team_id, r.sequence, :now
    from {_ROWS}
    order by r.account_id, r.email, r.phone, r.identifier
    """
)
_UPDATE = text(
    f"""
    update contacts c
    set name = r.name, email = r.email, phone = r.phone, language = r.language, labels = r.labels,
        blocked = r.blocked, identifier = r.identifier, company = r.company, city = r.city, country = r.country,
        attributes = r.attributes, owner_id = r.owner_id, owner_team_id = r.owner_team_id, sequence = r.sequence
    from {_ROWS}
    where c.id = r.id and c.account_id = r.account_id
    """
)
_RELEASE = text(
    """
    update contacts set identifier = null, email = null, phone = null
    where account_id = cast(:account as uuid) and id = any(cast(:ids as uuid[]))
    """
)
_DELETE = text(
    """
    with gone as (
        delete from contact_channels
        where account_id = cast(:account as uuid) and contact_id = cast(:id as uuid)
    )
    delete from contacts where id = cast(:id as uuid) and account_id = cast(:account as uuid)
    """
)
_HAS_MESSAGES = text(
    """
    select exists (
        select 1 from conversations where account_id = cast(:account as uuid) and contact_id = cast(:id as uuid)
    ) or exists (
        select 1 from messages where account_id = cast(:account as uuid) and withheld_from = cast(:id as uuid)
    )
    """
)
_WITH_KEYS = text(
    """
    select cast(id as text) as id, email, phone, identifier from contacts
    where account_id = cast(:account as uuid)
        and (email = :email or phone = :phone or identifier = :identifier) and id <> cast(:id as uuid)
    """
)
_ACTIVE = text(
    """
    insert into contact_activity (contact_id, account_id, at)
    select * from unnest(cast(:contacts as uuid[]), cast(:accounts as uuid[]), cast(:times as timestamptz[]))
        as k(contact_id, account_id, at)
    order by contact_id
    on conflict (contact_id) do update set at = excluded.at
        where contact_activity.at <= excluded.at - interval '1 minute'
    """
)


def person_of(row: Mapping[str, Any]) -> Person:
    """The contact within a row that has COLUMNS."""
    return Person(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        email=row["email"],
        phone=row["phone"],
        language=row["language"],
        labels=tuple(row["labels"]),
        blocked=row["blocked"],
        identifier=row["identifier"],
        company=row["company"],
        city=row["city"],
        country=row["country"],
        attributes=row["attributes"],
        owner_id=row["owner_id"],
        owner_team_id=row["owner_team_id"],
        sequence=row["sequence"],
        created_at=row["created_at"],
    )


def page_of_contacts(
    account_id: str,
    conditions: Iterable[ColumnElement[bool]],
    limit: int,
    after: tuple[datetime, str] | None,
    order: Order = "newest",
) -> Select[Any]:
    """The statement of one page, one row more than asked."""
    if order == "active":
        moment, id_ = _at, contact_activity.c.contact_id
        source = contact_activity.join(contacts, _c.id == contact_activity.c.contact_id)
        wanted = [contact_activity.c.account_id == account_id, _c.account_id == account_id]
    else:
        moment, id_ = _c.created_at, _c.id
        source = WITH_ACTIVITY
        wanted = [_c.account_id == account_id]
    wanted.append(_c.erased_at.is_(None))
    if after:
        wanted.append(older(moment, id_, after))
    return (
        select(*COLUMNS)
        .select_from(source)
        .where(*wanted, *conditions)
        .order_by(moment.desc(), id_.desc())
        .limit(limit + 1)
    )


async def page(tx: Tx, statement: Select[Any]) -> Sequence[Row]:
    """The rows of a page."""
    return list(plain(await tx.execute(statement)))


async def read(
    tx: Tx, account_id: str, contact_id: str, *, lock: Literal["edit", "delete"] | None = None
) -> Row | None:
    """One contact of the account. Locked to be deleted, nothing new can refer to it."""
    statement = select(*COLUMNS).select_from(WITH_ACTIVITY).where(_c.account_id == account_id, _c.id == contact_id)
    if lock:
        statement = statement.with_for_update(of=contacts, key_share=lock == "edit")
    return next(plain(await tx.execute(statement)), None)


async def locked(tx: Tx, account_id: str, ids: Sequence[str]) -> Sequence[Row]:
    """These contacts, locked to be edited, in the order of their ids."""
    statement = select(*COLUMNS).select_from(WITH_ACTIVITY).where(_c.account_id == account_id, _c.id.in_(ids))
    return list(plain(await tx.execute(statement.order_by(_c.id).with_for_update(of=contacts, key_share=True))))


async def insert(tx: Tx, persons: Sequence[Person], now: datetime) -> None:
    """Insert contacts. Raises UniqueViolation when another has one's e-mail, phone or identifier."""
    if persons:
        await tx.execute(_INSERT, {"persons": _json(persons), "now": now})


async def update(tx: Tx, persons: Sequence[Person]) -> None:
    """Write contacts that are locked. Raises UniqueViolation as `insert` does."""
    if persons:
        await tx.execute(_UPDATE, {"persons": _json(persons)})


async def release(tx: Tx, account_id: str, ids: Sequence[str]) -> None:
    """Take identifier, e-mail and phone from contacts that are locked and written anew within this transaction.

    Uniqueness is judged row by row: only so can two exchange what they have.
    """
    if ids:
        await tx.execute(_RELEASE, {"account": account_id, "ids": list(ids)})


async def delete(tx: Tx, account_id: str, contact_id: str) -> None:
    """Delete a contact that is locked, with channels, notes and activity; no conversation may refer to it."""
    await tx.execute(_DELETE, {"account": account_id, "id": contact_id})


async def has_messages(tx: Tx, account_id: str, contact_id: str) -> bool:
    """Whether the contact has conversations, or messages that were withheld."""
    return bool((await tx.execute(_HAS_MESSAGES, {"account": account_id, "id": contact_id})).scalar_one())


async def with_keys(tx: Tx, person: Person) -> Sequence[Row]:
    """The other contacts of the account that have this one's e-mail, phone or identifier."""
    asked = {
        "account": person.account_id,
        "id": person.id,
        "email": person.email,
        "phone": person.phone,
        "identifier": person.identifier,
    }
    return list(plain(await tx.execute(_WITH_KEYS, asked)))


async def active(tx: Tx, times: Mapping[tuple[str, str], datetime]) -> None:
    """Remember when contacts, by account and id, wrote last; to the minute, so that a flood writes a row once."""
    if times:
        await tx.execute(
            _ACTIVE,
            {
                "contacts": [id_ for _, id_ in times],
                "accounts": [account for account, _ in times],
                "times": list(times.values()),
            },
        )


def _json(persons: Sequence[Person]) -> str:
    return to_json(
        [{name: getattr(one, name) for name in Person.__slots__ if name != "created_at"} for one in persons]
    ).decode()
