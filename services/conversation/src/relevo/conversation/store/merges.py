"""Merging contacts: what is theirs goes from one to the other, and the record that brings it back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.profile import Person
from relevo.conversation.store.rows import Row, plain

UNDOABLE: Final = timedelta(days=30)
"""For so long a merge can be undone, of contacts or of conversations."""

_COLUMNS: Final = """
    cast(id as text) as id, cast(account_id as text) as account_id, cast(base_id as text) as base_id,
    cast(other_id as text) as other_id, actor, actor_name, base, other, other_created_at, other_active_at, channels,
    cast(conversations as text[]) as conversations, cast(notes as text[]) as notes,
    cast(messages as text[]) as messages, merged_at, undone_at
"""
_ACCOUNT: Final = "account_id = cast(:account as uuid)"
_MOVE_CHANNELS = text(
    f"""
    update contact_channels set contact_id = cast(:to as uuid)
    where {_ACCOUNT} and contact_id = cast(:from as uuid)
    returning cast(inbox_id as text) as inbox_id, source_id
    """
)
_CHANNELS_BACK = text(
    f"""
    update contact_channels ch set contact_id = cast(:to as uuid)
    from json_to_recordset(cast(:channels as json)) as k(inbox_id uuid, source_id text)
    where ch.inbox_id = k.inbox_id and ch.source_id = k.source_id and ch.{_ACCOUNT}
        and ch.contact_id = cast(:from as uuid)
    """
)
_CONVERSATIONS = text(
    f"select cast(id as text) from conversations where {_ACCOUNT} and contact_id = cast(:contact as uuid)"
)
# What began since over a channel that goes back goes back with it.
_CONVERSATIONS_BACK = text(
    f"""
    select cast(c.id as text) from conversations c
    where c.{_ACCOUNT} and c.contact_id = cast(:contact as uuid) and (
        c.id = any(cast(:ids as uuid[])) or exists (
            select 1 from json_to_recordset(cast(:channels as json)) as k(inbox_id uuid, source_id text)
            where k.inbox_id = c.inbox_id and k.source_id = c.source_id
        )
    )
    """
)
_HAND_OVER = text(
    f"update conversations set contact_id = cast(:to as uuid) where {_ACCOUNT} and id = any(cast(:ids as uuid[]))"
)
_MOVE: Final = {
    "notes": text(
        f"""
        update contact_notes set contact_id = cast(:to as uuid)
        where {_ACCOUNT} and contact_id = cast(:from as uuid)
            and (cast(:ids as uuid[]) is null or id = any(cast(:ids as uuid[])))
        returning cast(id as text)
        """
    ),
    "messages": text(
        f"""
        update messages set withheld_from = cast(:to as uuid)
        where {_ACCOUNT} and withheld_from = cast(:from as uuid)
            and (cast(:ids as uuid[]) is null or id = any(cast(:ids as uuid[])))
        returning cast(id as text)
        """
    ),
}
_ACTIVE = text(
    """
    insert into contact_activity (contact_id, account_id, at)
    values (cast(:contact as uuid), cast(:account as uuid), :at)
    on conflict (contact_id) do update set at = greatest(contact_activity.at, excluded.at)
    """
)
_ADD = text(
    f"""
    insert into contact_merges (
        id, account_id, base_id, other_id, actor, actor_name, base, other, other_created_at, other_active_at, channels,
        conversations, notes, messages, merged_at
    )
    values (
        cast(:id as uuid), cast(:account as uuid), cast(:base_id as uuid), cast(:other_id as uuid), :actor, :actor_name,
        cast(:base as jsonb), cast(:other as jsonb), :other_created_at, :other_active_at, cast(:channels as jsonb),
        cast(:conversations as uuid[]), cast(:notes as uuid[]), cast(:messages as uuid[]), :merged_at
    )
    returning {_COLUMNS}
    """
)
_READ = text(f"select {_COLUMNS} from contact_merges where {_ACCOUNT} and id = cast(:id as uuid) for update")
_OF_BASE = text(
    f"""
    select {_COLUMNS} from contact_merges
    where {_ACCOUNT} and base_id = cast(:contact as uuid) and undone_at is null and merged_at > :since
    order by merged_at desc, id desc limit 200
    """
)
_INTO = text(
    f"""
    select cast(base_id as text) from contact_merges
    where {_ACCOUNT} and other_id = cast(:contact as uuid) and undone_at is null order by merged_at desc limit 1
    """
)
_UNDONE = text(f"update contact_merges set undone_at = now() where {_ACCOUNT} and id = cast(:id as uuid)")
# Who was merged into whom stays: whoever erases the one erases the other from the log.
_FORGET = text(
    """
    update contact_merges set base = '{}', other = '{}', channels = '[]'
    where merged_at < :before and base <> '{}'
    """
)


async def take_channels(tx: Tx, account_id: str, from_id: str, to_id: str) -> list[dict[str, str]]:
    """The channels of one contact become another's; answers them."""
    asked = {"account": account_id, "from": from_id, "to": to_id}
    return list(plain(await tx.execute(_MOVE_CHANNELS, asked)))


async def give_channels_back(tx: Tx, account_id: str, from_id: str, to_id: str, channels: Any) -> None:
    """Those of them that are still there go back."""
    asked = {"account": account_id, "from": from_id, "to": to_id, "channels": to_json(channels).decode()}
    await tx.execute(_CHANNELS_BACK, asked)


async def conversations_of(tx: Tx, account_id: str, contact_id: str) -> list[str]:
    """The ids of a contact's conversations."""
    return list((await tx.execute(_CONVERSATIONS, {"account": account_id, "contact": contact_id})).scalars())


async def conversations_to_give_back(tx: Tx, account_id: str, merge: Row) -> list[str]:
    """Those that came with a merge or began since over its channels, and are still the base's."""
    asked = {
        "account": account_id,
        "contact": merge["base_id"],
        "ids": merge["conversations"],
        "channels": to_json(merge["channels"]).decode(),
    }
    return list((await tx.execute(_CONVERSATIONS_BACK, asked)).scalars())


async def hand_over(tx: Tx, account_id: str, conversation_ids: Iterable[str], to_id: str) -> None:
    """Conversations that are locked become a contact's."""
    await tx.execute(_HAND_OVER, {"account": account_id, "ids": sorted(conversation_ids), "to": to_id})


async def move(
    tx: Tx, account_id: str, what: str, *, from_id: str, to_id: str, ids: Sequence[str] | None = None
) -> list[str]:
    """`notes`, or withheld `messages`, of one contact become another's: all, or those named; answers which."""
    asked = {"account": account_id, "from": from_id, "to": to_id, "ids": list(ids) if ids is not None else None}
    return list((await tx.execute(_MOVE[what], asked)).scalars())


async def active(tx: Tx, account_id: str, contact_id: str, at: datetime | None) -> None:
    """A contact wrote at this moment, or later."""
    if at is not None:
        await tx.execute(_ACTIVE, {"account": account_id, "contact": contact_id, "at": at})


async def add(tx: Tx, account_id: str, base: Person, other: Person, row: Mapping[str, Any]) -> Row:
    """Keep the record of a merge."""
    asked = {
        **row,
        "account": account_id,
        "base_id": base.id,
        "other_id": other.id,
        "base": _json(base),
        "other": _json(other),
        "other_created_at": other.created_at,
        "channels": to_json(row["channels"]).decode(),
    }
    return next(plain(await tx.execute(_ADD, asked)))


async def read(tx: Tx, account_id: str, merge_id: str) -> Row | None:
    """One merge, locked."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": merge_id})), None)


async def undoable(tx: Tx, account_id: str, contact_id: str, now: datetime) -> Sequence[Row]:
    """The merges into a contact that can be undone, the newest first; two hundred at most."""
    asked = {"account": account_id, "contact": contact_id, "since": now - UNDOABLE}
    return list(plain(await tx.execute(_OF_BASE, asked)))


async def into(tx: Tx, account_id: str, contact_id: str) -> str | None:
    """The contact that one who is there no more was merged into, as long as that is known."""
    found = (await tx.execute(_INTO, {"account": account_id, "contact": contact_id})).first()
    return found[0] if found else None


async def undone(tx: Tx, account_id: str, merge_id: str) -> None:
    """A merge was undone."""
    await tx.execute(_UNDONE, {"account": account_id, "id": merge_id})


async def forget(tx: Tx, before: datetime) -> None:
    """Forget what merges that can be undone no more had moved."""
    await tx.execute(_FORGET, {"before": before})


def person_within(document: Mapping[str, Any], created_at: datetime | None = None) -> Person:
    """A contact as a record holds it."""
    return Person(**{**document, "labels": tuple(document["labels"]), "created_at": created_at})


def _json(person: Person) -> str:
    return to_json({name: getattr(person, name) for name in Person.__slots__ if name != "created_at"}).decode()
