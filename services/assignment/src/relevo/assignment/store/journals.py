"""SQL of the journals: what may change who holds what, until it is decided on."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from relevo.assignment.domain import inputs
from relevo.assignment.domain.inputs import Entry, Input
from relevo.assignment.store import pools
from relevo.chassis.database import Tx
from relevo.contracts.envelope import Envelope

_APPEND = text("""
    insert into journal (account_id, kind, payload, cause)
    select account_id, kind, payload, cause
    from unnest(cast(:accounts as uuid[]), cast(:kinds as text[]), cast(:payloads as jsonb[]), cast(:causes as jsonb[]))
        with ordinality as j (account_id, kind, payload, cause, place)
    order by place
    returning id
""")

_PENDING = text("""
    with recursive waiting as (
        (select account_id from journal where done_at is null and waiting_for is null order by account_id limit 1)
        union all
        select (select j.account_id from journal j
                where j.done_at is null and j.waiting_for is null and j.account_id > w.account_id
                order by j.account_id limit 1)
        from waiting w where w.account_id is not null
    )
    select cast(account_id as text) from waiting where account_id is not null
""")

_TAKE = text("""
    select id, kind, payload, cause, created_at from journal
    where account_id = cast(:account as uuid) and done_at is null and waiting_for is null
    order by id limit :limit
""")

_DONE = text("""
    update journal j set done_at = now(), run = :run, error = d.error
    from unnest(cast(:ids as bigint[]), cast(:errors as text[])) as d (id, error)
    where j.id = d.id
""")

_WITHDRAW = text("delete from journal where account_id = cast(:account as uuid) and id = :id")

_WAIT = text("""
    update journal j set waiting_for = w.conversation_id
    from unnest(cast(:ids as bigint[]), cast(:conversations as uuid[])) as w (id, conversation_id)
    where j.id = w.id
""")

_WAIT_NO_MORE = text("""
    update journal set waiting_for = null
    where waiting_for = any(cast(:conversations as uuid[])) and account_id = cast(:account as uuid)
      and done_at is null
""")


@dataclass(frozen=True, slots=True)
class Note:
    """An input to write into an account's journal, with the event that brought it."""

    account_id: str
    given: Input
    cause: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of a journal that cannot be understood."""

    id: int
    error: str


async def append(tx: Tx, notes: Sequence[Note]) -> list[int]:
    """Write inputs into the journals of their accounts, in this order; answers their ids."""
    await pools.make_pools(tx, (note.account_id for note in notes))
    encoded = [inputs.encode(note.given) for note in notes]
    rows = await tx.execute(
        _APPEND,
        {
            "accounts": [note.account_id for note in notes],
            "kinds": [kind for kind, _ in encoded],
            "payloads": [payload for _, payload in encoded],
            "causes": [None if note.cause is None else json.dumps(note.cause.headers()) for note in notes],
        },
    )
    return sorted(rows.scalars())


async def pending(tx: Tx) -> list[str]:
    """The accounts whose journals hold inputs that nobody has decided on."""
    return list((await tx.execute(_PENDING)).scalars())


async def take(tx: Tx, account_id: str, limit: int) -> list[Entry | Unreadable]:
    """What waits in the journal, in order. Rows of slower transactions turn up later, with smaller ids."""
    found: list[Entry | Unreadable] = []
    for row in (await tx.execute(_TAKE, {"account": account_id, "limit": limit})).all():
        try:
            given = inputs.decode(row.kind, row.payload)
            cause = None if row.cause is None else Envelope.from_headers(row.cause)
            found.append(Entry(row.id, row.created_at, given, cause))
        except (KeyError, ValueError) as error:
            found.append(Unreadable(row.id, f"{type(error).__name__}: {error}"[:1000]))
    return found


async def done(tx: Tx, run: int, rows: Mapping[int, str | None]) -> None:
    """Mark rows of the journal as decided, with why not where that failed."""
    await tx.execute(_DONE, {"ids": list(rows), "errors": list(rows.values()), "run": run})


async def withdraw(tx: Tx, account_id: str, journal_id: int) -> None:
    """Take an input back that was refused, and so changed nothing; what was decided before it stays."""
    await tx.execute(_WITHDRAW, {"account": account_id, "id": journal_id})


async def wait_for(tx: Tx, rows: Mapping[int, str]) -> None:
    """Put rows aside until the conversation that they name is known."""
    if rows:
        await tx.execute(_WAIT, {"ids": list(rows), "conversations": list(rows.values())})


async def wait_no_more(tx: Tx, account_id: str, conversations: Collection[str]) -> None:
    """These conversations are known now."""
    if conversations:
        await tx.execute(_WAIT_NO_MORE, {"conversations": sorted(conversations), "account": account_id})
