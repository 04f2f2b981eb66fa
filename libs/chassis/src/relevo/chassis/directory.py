"""The directory that every service keeps: accounts, roles, agents, teams, keys, signing keys, ended sessions, inboxes.

A projection of EVT_IDENTITY and of InboxChanged, moved in the transaction of the reader's position. Identity itself
calls `apply` in its own transactions instead. A row holds the entity's whole state as its event carried it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.chassis.projection import Projection
from relevo.chassis.received import Received
from relevo.contracts import identity, ingest
from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_MODEL, MESSAGES, Message

DDL_V1: Final[tuple[str, ...]] = (
    """
    create table directory (
        kind text not null,
        account_id text not null,
        id text not null,
        state jsonb not null,
        sequence bigint not null,
        deleted boolean not null default false,
        primary key (kind, id)
    )
    """,
    "create index directory_account on directory (account_id, kind)",
    "comment on table directory is 'projection of identity''s directory and of inboxes, for access and names'",
    "comment on column directory.account_id is 'text: signing keys belong to no account (platform)'",
    "comment on column directory.sequence is 'number of the event within its entity that this state came with'",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the directory. `sequence` numbers the entity's events; an older one never replaces a newer."""

    kind: str
    account_id: str
    id: str
    state: Model
    sequence: int
    deleted: bool = False


_Of = Callable[[Any], tuple[str, str, Model, bool]]
"""(account id, id, state, deleted) of an event's body."""

_KINDS: Final[Mapping[str, tuple[str, _Of]]] = {
    BY_MODEL[model].name: (kind, of)
    for model, kind, of in (
        (identity.AccountChanged, "account", lambda e: (e.account.id, e.account.id, e.account, e.deleted)),
        (identity.RoleChanged, "role", lambda e: (e.role.account_id, e.role.id, e.role, e.deleted)),
        (identity.AgentChanged, "agent", lambda e: (e.agent.account_id, e.agent.id, e.agent, e.deleted)),
        (identity.TeamChanged, "team", lambda e: (e.team.account_id, e.team.id, e.team, e.deleted)),
        (
            identity.CalendarChanged,
            "calendar",
            lambda e: (e.calendar.account_id, e.calendar.id, e.calendar, e.deleted),
        ),
        (identity.KeyChanged, "key", lambda e: (e.key.account_id, e.key.id, e.key, e.deleted)),
        (
            identity.SigningKeyChanged,
            "signing_key",
            lambda e: (identity.PLATFORM, e.signing_key.id, e.signing_key, e.deleted),
        ),
        (identity.SessionRevoked, "session", lambda e: (e.account_id, e.session_id, e, False)),
        (ingest.InboxChanged, "inbox", lambda e: (e.inbox.account_id, e.inbox.id, e.inbox, e.deleted)),
    )
}

_UPSERT = text("""
    insert into directory (kind, account_id, id, state, sequence, deleted)
    select * from unnest(
        cast(:kinds as text[]), cast(:accounts as text[]), cast(:ids as text[]), cast(:states as jsonb[]),
        cast(:sequences as bigint[]), cast(:deleted as boolean[]))
    on conflict (kind, id) do update
        set state = excluded.state, sequence = excluded.sequence, deleted = excluded.deleted
        where excluded.sequence >= directory.sequence
""")
# An ended session is forgotten once no token of it can be valid any more.
_FORGET_SESSIONS = text("""
    delete from directory where kind = 'session' and cast(state ->> 'until' as timestamptz) < now() - interval '1 hour'
""")
_BY_IDS = text("""
    select state from directory where kind = :kind and id = any(cast(:ids as text[])) and not deleted
""")
_BY_ACCOUNT = text("""
    select state from directory where account_id = :account and kind = :kind and not deleted order by id
""")


def concerns(message: Message) -> bool:
    """Whether a message changes the directory."""
    return message.name in _KINDS


def entry_of(event_type: str, data: Model, sequence: int) -> Entry | None:
    """The row that an event changes, None when it changes none."""
    found = _KINDS.get(event_type)
    if found is None:
        return None
    kind, of = found
    account_id, id_, state, deleted = of(data)
    return Entry(kind, account_id, id_, state, sequence, deleted)


async def project(batch: Sequence[Received], tx: Tx) -> None:
    """Project the events of a batch that concern the directory; others are left alone."""
    entries = [
        entry
        for received in batch
        if received.envelope.type in _KINDS
        and (entry := entry_of(received.envelope.type, received.data, received.envelope.sequence))
    ]
    await apply_all(tx, entries)


async def apply(  # noqa: PLR0917
    tx: Tx, kind: str, account_id: str, id_: str, state: Model, sequence: int, *, deleted: bool = False
) -> None:
    """Write one entity: for identity, whose transaction is the change itself."""
    await apply_all(tx, [Entry(kind, account_id, id_, state, sequence, deleted)])


async def apply_all(tx: Tx, entries: Iterable[Entry]) -> None:
    """Write these entries, in this order, in one statement; older states never replace newer ones."""
    latest: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        before = latest.get((entry.kind, entry.id))
        if before is None or entry.sequence >= before.sequence:
            latest[entry.kind, entry.id] = entry
    if not latest:
        return
    # In the order of the primary key, so that two writers never wait for each other in a circle.
    rows = [latest[key] for key in sorted(latest)]
    await tx.execute(
        _UPSERT,
        {
            "kinds": [row.kind for row in rows],
            "accounts": [row.account_id for row in rows],
            "ids": [row.id for row in rows],
            "states": [row.state.model_dump_json() for row in rows],
            "sequences": [row.sequence for row in rows],
            "deleted": [row.deleted for row in rows],
        },
    )


async def tidy(tx: Tx) -> None:
    """Forget the ended sessions of which no token can be valid any more."""
    async with tx.through("retention"):
        await tx.execute(_FORGET_SESSIONS)


def projections(service: str) -> tuple[Projection, ...]:
    """The directory as a projection of what a service reads; identity's, of what it publishes itself too."""
    sources = {
        message.stream: project
        for message in MESSAGES
        if concerns(message) and (service in message.consumers or service == "identity")
    }
    return (Projection("directory", ("directory",), sources, tidy),) if sources else ()


async def inboxes(tx: Tx, ids: Iterable[str]) -> dict[str, ingest.InboxState]:
    """The inboxes with these ids that exist, by id."""
    rows = await tx.execute(_BY_IDS, {"kind": "inbox", "ids": sorted(set(ids))})
    return {state.id: state for state in map(ingest.InboxState.model_validate, rows.scalars())}


async def account_inboxes(tx: Tx, account_id: str) -> list[ingest.InboxState]:
    """The inboxes of an account."""
    rows = await tx.execute(_BY_ACCOUNT, {"kind": "inbox", "account": account_id})
    return [ingest.InboxState.model_validate(state) for state in rows.scalars()]


async def agents(tx: Tx, account_id: str) -> list[identity.AgentState]:
    """The agents of an account, also inactive ones; removed ones not."""
    rows = await tx.execute(_BY_ACCOUNT, {"kind": "agent", "account": account_id})
    return [identity.AgentState.model_validate(state) for state in rows.scalars()]


async def roles(tx: Tx, account_id: str) -> list[identity.RoleState]:
    """The roles of an account."""
    rows = await tx.execute(_BY_ACCOUNT, {"kind": "role", "account": account_id})
    return [identity.RoleState.model_validate(state) for state in rows.scalars()]


async def teams(tx: Tx, account_id: str) -> list[identity.TeamState]:
    """The teams of an account."""
    rows = await tx.execute(_BY_ACCOUNT, {"kind": "team", "account": account_id})
    return [identity.TeamState.model_validate(state) for state in rows.scalars()]


async def accounts(tx: Tx, ids: Iterable[str]) -> dict[str, identity.AccountState]:
    """The accounts with these ids that exist, by id."""
    rows = await tx.execute(_BY_IDS, {"kind": "account", "ids": sorted(set(ids))})
    return {state.id: state for state in map(identity.AccountState.model_validate, rows.scalars())}
