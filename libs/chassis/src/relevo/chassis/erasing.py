"""Erasing people: whom a service must forget, what it says it holds of people, and its tables without them.

A service declares, as data, which columns of its tables can tell of a person, and how their rows are found by the ids
that it is told (`Personal`); a test holds every column of text to that list. What all services have alike is done
here, once: answers kept for repeated requests, dead letters; the log and the bus are `relevo.chassis.eraser`'s.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, LiteralString

from sqlalchemy import text

from relevo.chassis.database import Database, Tx
from relevo.chassis.received import Received
from relevo.contracts.erasure import ErasePerson, SenderRef
from relevo.contracts.grants import swept_by

DDL_V4: Final[tuple[str, ...]] = (
    """
    create table erasures (
        id uuid primary key,
        account_id uuid not null,
        contact_id uuid not null,
        merged_ids uuid[] not null,
        conversation_ids uuid[] not null,
        senders jsonb not null,
        asked_at timestamptz not null,
        sweep boolean not null,
        step text not null,
        place bigint not null default 0,
        barrier jsonb not null default '{}',
        again_at timestamptz not null default now(),
        redacted bigint not null default 0,
        deleted bigint not null default 0,
        done_at timestamptz
    )
    """,
    "create index erasures_at_work on erasures (again_at) where done_at is null",
    "create index erasures_lately on erasures (account_id, asked_at)",
    "comment on table erasures is 'people whom this service was told to forget, and how far it is'",
    "comment on column erasures.senders is 'inbox and sender key of each channel; emptied when nothing late can come'",
    "comment on column erasures.place is 'rows of the outbox up to here are gone through'",
    "comment on column erasures.barrier is 'where the streams ended that this service reads: by now it is past that'",
    """
    create table erasing_messages (
        erasure_id uuid not null,
        account_id uuid not null,
        stream text not null,
        event_id uuid not null,
        seq bigint,
        primary key (erasure_id, stream, event_id)
    )
    """,
    "comment on table erasing_messages is 'events that were redacted in the log and are to be deleted from their stream'",
    """
    create table erasing_objects (
        erasure_id uuid not null,
        account_id uuid not null,
        name text not null,
        primary key (erasure_id, name)
    )
    """,
    "comment on table erasing_objects is 'segments that others have taken the place of, to be deleted'",
)

LATELY: Final = "30 days"
"""How long whoever keeps what comes late asks whether it is of somebody who was erased; dead letters live so long."""

_TOKENS = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<![0-9a-z])[a-z2-7]{26}(?![0-9a-z])")
_FEW: Final = 20
"""Ids that are sooner looked for one by one than all tokens taken apart."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom to forget, by the ids that anything of theirs carries; ``senders`` are pairs of inbox and sender key."""

    erasure_id: str
    account_id: str
    contact_id: str
    merged_ids: tuple[str, ...]
    conversation_ids: tuple[str, ...]
    senders: tuple[tuple[str, str], ...]
    asked_at: datetime

    @classmethod
    def of(cls, row: Any) -> "Person":
        """From a row of `erasures`."""
        return cls(
            str(row.id),
            str(row.account_id),
            str(row.contact_id),
            tuple(map(str, row.merged_ids)),
            tuple(map(str, row.conversation_ids)),
            tuple((one["inbox_id"], one["sender_key"]) for one in row.senders),
            row.asked_at,
        )

    @classmethod
    def named(cls, account_id: str, told: ErasePerson) -> "Person":
        """From what is told on the bus."""
        return cls(
            told.erasure_id,
            account_id,
            told.contact_id,
            told.merged_ids,
            told.conversation_ids,
            tuple((one.inbox_id, one.sender_key) for one in told.senders),
            told.asked_at,
        )

    @property
    def contact_ids(self) -> tuple[str, ...]:
        """The contact, and who was merged into it."""
        return self.contact_id, *self.merged_ids

    def asked(self, erasure_id: str, *, sweep: bool = False) -> ErasePerson:
        """As it is told on the bus."""
        return ErasePerson(
            erasure_id=erasure_id,
            contact_id=self.contact_id,
            merged_ids=self.merged_ids,
            conversation_ids=self.conversation_ids,
            senders=tuple(SenderRef(inbox_id=inbox, sender_key=key) for inbox, key in self.senders),
            asked_at=self.asked_at,
            sweep=sweep,
        )

    def concerned(self, *told: bytes) -> bool:
        """Whether these bytes (a subject, headers, a body) are about the person: they name the account, and one of them.

        An id names them anywhere, a sender key only beside its inbox: another account's customer may have the same.
        """
        # Most of a log names none of them: where they have few ids that is seen far sooner than which ids it names.
        whole = b"\n".join(told)
        if self.account_id.encode() not in whole:
            return False
        named = (*self.contact_ids, *self.conversation_ids, *(key for _, key in self.senders))
        if len(named) <= _FEW and not any(one.encode() in whole for one in named):
            return False
        tokens = {token.decode() for part in told for token in _TOKENS.findall(part)}
        if self.account_id not in tokens:
            return False
        if not tokens.isdisjoint((*self.contact_ids, *self.conversation_ids)):
            return True
        return any(inbox in tokens and key in tokens for inbox, key in self.senders)

    def parameters(self) -> dict[str, Any]:
        """For the statements of `Held`."""
        return {
            "account": self.account_id,
            "contact": self.contact_id,
            "contacts": list(self.contact_ids),
            "conversations": list(self.conversation_ids),
            "inboxes": [inbox for inbox, _ in self.senders],
            "keys": [key for _, key in self.senders],
            "asked_at": self.asked_at,
        }


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of a table that can be about a person, and what becomes of them.

    ``rows`` is a condition over :account, :contact, :contacts, :conversations (text[]), :inboxes and :keys (text[], in
    pairs) and :asked_at. ``becomes`` are assignments; without any the rows are deleted. ``columns`` are those that are
    personal.
    """

    table: str
    columns: tuple[str, ...]
    rows: LiteralString
    becomes: LiteralString = ""

    def statement(self) -> str:
        """As SQL."""
        return (
            f"update {self.table} set {self.becomes} where {self.rows}"
            if self.becomes
            else f"delete from {self.table} where {self.rows}"
        )


Also = Callable[[Tx, Person], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Personal:
    """What a service holds of people: every column of text, JSON or bytes of its tables stands in one of these lists.

    ``also`` does what statements over ids cannot, to the columns that ``also_columns`` names; ``outside`` removes what is
    kept outside of the database, once the tables do not name it any more; ``finish`` is called in the transaction that
    ends an erasure, in place of telling it on the bus, with whether it was a sweep.
    """

    held: Sequence[Held] = ()
    plain: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    also: Also | None = None
    also_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outside: Callable[[Database], Awaitable[object]] | None = None
    finish: Callable[[Tx, Person, bool], Awaitable[None]] | None = None


_ADD = text(
    """
    insert into erasures (id, account_id, contact_id, merged_ids, conversation_ids, senders, asked_at, sweep, step)
    values (cast(:id as uuid), cast(:account as uuid), cast(:contact as uuid), cast(:merged as uuid[]),
            cast(:conversations as uuid[]), cast(:senders as jsonb), :asked_at, :sweep, :step)
    on conflict (id) do nothing
    """
)
_LATELY = text(
    f"""
    select * from erasures
    where account_id = cast(:account as uuid) and asked_at > now() - interval '{LATELY}' and not sweep
    order by asked_at
    """
)
# Whatever these answers say, they say it of somebody by one of the ids.
_ANSWERS = text(
    """
    delete from idempotency where account_id = :account and exists (
        select 1 from unnest(cast(:contacts as text[]) || cast(:conversations as text[])) k
        where strpos(cast(response as text), k) > 0
    )
    """
)
_LETTERS = text(
    """
    select cast(id as text) as id, subject, cast(headers as text) as headers, body, error from dead_letters
    where body <> '' and id > cast(:after as uuid) order by id limit 200
    """
)
_UNSAY = text(
    """
    update dead_letters set subject = '', headers = '{}', body = '', error = '' where id = any(cast(:ids as uuid[]))
    """
)
_FIRST = "00000000-0000-0000-0000-000000000000"


async def add(tx: Tx, account_id: str, told: ErasePerson) -> None:
    """Have a person forgotten; told again, nothing more happens."""
    await tx.execute(
        _ADD,
        {
            "id": told.erasure_id,
            "account": account_id,
            "contact": told.contact_id,
            "merged": list(told.merged_ids),
            "conversations": list(told.conversation_ids),
            "senders": json.dumps([one.model_dump() for one in told.senders]),
            "asked_at": told.asked_at,
            "sweep": told.sweep,
            "step": "sweep" if told.sweep else "tables",
        },
    )


_READ = text("select * from erasures where account_id = cast(:account as uuid) and id = cast(:id as uuid)")


async def read(tx: Tx, account_id: str, erasure_id: str) -> Person | None:
    """Whom an erasure was about."""
    row = (await tx.execute(_READ, {"account": account_id, "id": erasure_id})).first()
    return None if row is None else Person.of(row)


async def hear(batch: Sequence[Received], tx: Tx) -> None:
    """The handler of CMD_ERASURE in every service that holds anything of people."""
    for received in batch:
        if received.is_a(ErasePerson) and (not received.data.sweep or swept_by(tx.service)):
            await add(tx, received.account, received.data)


async def lately_erased(tx: Tx, account_id: str) -> list[Person]:
    """The people of an account who were erased, for whoever keeps what comes late."""
    if _TOKENS.fullmatch(account_id.encode()) is None:
        return []  # no account at all
    return [Person.of(row) for row in await tx.execute(_LATELY, {"account": account_id})]


async def forget_answers(tx: Tx, person: Person) -> None:
    """Answers that are kept for repeated requests, and tell of a person."""
    await tx.execute(_ANSWERS, person.parameters())


async def clean(tx: Tx, personal: Personal, person: Person) -> None:
    """Take a person out of the service's tables, and out of those that every service has. Twice changes nothing."""
    asked = person.parameters()
    for held in personal.held:
        await tx.execute(text(held.statement()), asked)
    if personal.also is not None:
        await personal.also(tx, person)
    await forget_answers(tx, person)
    after = _FIRST
    while letters := (await tx.execute(_LETTERS, {"after": after})).all():
        gone = [
            letter.id
            for letter in letters
            if person.concerned(letter.subject.encode(), letter.headers.encode(), bytes(letter.body))
        ]
        if gone:
            await tx.execute(_UNSAY, {"ids": gone})
        after = letters[-1].id
