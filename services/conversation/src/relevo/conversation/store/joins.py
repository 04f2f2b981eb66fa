"""Conversations that became part of others: the record of each merge, and what is read over both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.domain.joining import Join
from relevo.conversation.store.messages import MESSAGE_COLUMNS
from relevo.conversation.store.rows import Row, plain

_COLUMNS: Final = """
    cast(j.id as text) as id, cast(j.base_id as text) as base_id, cast(j.other_id as text) as other_id, j.place, j.reopen,
    j.unarchive, j.labels, cast(j.participant_ids as text[]) as participant_ids, j.base_waiting, j.other_waiting,
    j.actor, j.actor_name, j.merged_at, j.undone_at
"""
_ADD = text(
    """
    insert into conversation_merges (
        id, account_id, base_id, other_id, place, reopen, unarchive, labels, participant_ids, base_waiting, other_waiting,
        actor, actor_name, merged_at
    )
    values (
        cast(:id as uuid), cast(:account as uuid), cast(:base_id as uuid), cast(:other_id as uuid), :place, :reopen,
        :unarchive, cast(:labels as text[]), cast(:participant_ids as uuid[]), :base_waiting, :other_waiting, :actor,
        :actor_name, :at
    )
    """
)
_ABSORBED = text(
    """
    update conversations set absorbed = absorbed + :by
    where id = cast(:id as uuid) and account_id = cast(:account as uuid)
    """
)
# Nobody loses what they were writing: a draft goes along where its writer has none.
_DRAFTS = text(
    """
    update drafts d set conversation_id = cast(:base as uuid)
    where d.account_id = cast(:account as uuid) and d.conversation_id = cast(:other as uuid) and not exists (
        select from drafts e where e.agent_id = d.agent_id and e.conversation_id = cast(:base as uuid)
            and e.account_id = d.account_id)
    """
)
_WAITING = text(
    """
    select exists (
        select from waiting_messages where account_id = cast(:account as uuid)
            and conversation_id = cast(:conversation as uuid) and refused is null)
    """
)
_READ = text(
    f"""
    select {_COLUMNS} from conversation_merges j
    where j.account_id = cast(:account as uuid) and j.id = cast(:id as uuid)
    """
)
_OF_BASE = text(
    f"""
    select {_COLUMNS}, o.number as other_number from conversation_merges j
    join conversations o on o.id = j.other_id and o.account_id = j.account_id
    where j.account_id = cast(:account as uuid) and j.base_id = cast(:base as uuid) and j.undone_at is null
    order by j.merged_at desc, j.id desc limit 200
    """
)
_UNDONE = text(
    "update conversation_merges set undone_at = :at where id = cast(:id as uuid) and account_id = cast(:account as uuid)"
)
_PARTS = text(
    """
    select cast(j.base_id as text) as base_id, cast(j.other_id as text) as other_id from conversation_merges j
    where j.account_id = cast(:account as uuid) and j.base_id = any(cast(:bases as uuid[])) and j.undone_at is null
    """
)
_SEE_PARTS = text(
    """
    insert into seen (account_id, agent_id, conversation_id, sequence, seen_at)
    select j.account_id, cast(:agent as uuid), o.id, o.sequence, now() from conversation_merges j
    join conversations o on o.id = j.other_id and o.account_id = j.account_id
    where j.account_id = cast(:account as uuid) and j.base_id = cast(:base as uuid) and j.undone_at is null
        and j.place <= :through
    on conflict (agent_id, conversation_id) do update set sequence = excluded.sequence, seen_at = excluded.seen_at
        where excluded.sequence > seen.sequence
    """
)
# An own message stands at its number; one of a part at the number of the event that tells of the merge, in its own order.
# Contacts that were told apart since take their conversations with them.
_PAGE: Final = f"""
    select * from (
        select {MESSAGE_COLUMNS}, m.activity, m.cause, m.sequence as place, 0 as part from messages m
        where m.account_id = cast(:account as uuid) and m.conversation_id = cast(:conversation as uuid)
        union all
        select {MESSAGE_COLUMNS}, m.activity, m.cause, j.place, m.sequence from conversation_merges j
        join conversations b on b.id = j.base_id and b.account_id = j.account_id
        join conversations o on o.id = j.other_id and o.account_id = j.account_id and o.contact_id = b.contact_id
        join messages m on m.conversation_id = o.id and m.account_id = o.account_id
        where j.account_id = cast(:account as uuid) and j.base_id = cast(:conversation as uuid) and j.undone_at is null
    ) as shown
    where cast(:place as bigint) is null or (place, part) {{compare}} (cast(:place as bigint), cast(:part as bigint))
    order by place {{order}}, part {{order}} limit :limit
"""
_OLDEST: Final = text(_PAGE.format(compare=">", order="asc"))
_NEWEST: Final = text(_PAGE.format(compare="<", order="desc"))


async def add(tx: Tx, account_id: str, record: Join, *, actor: str, actor_name: str, at: datetime) -> None:
    """Keep the record of a merge; both conversations are locked."""
    values: Mapping[str, Any] = asdict(record)
    lists = {"labels": list(record.labels), "participant_ids": list(record.participant_ids)}
    given = {**values, **lists, "account": account_id, "actor": actor, "actor_name": actor_name, "at": at}
    await tx.execute(_ADD, given)
    await tx.execute(_ABSORBED, {"account": account_id, "id": record.base_id, "by": 1})
    await tx.execute(_DRAFTS, {"account": account_id, "base": record.base_id, "other": record.other_id})


async def messages_wait(tx: Tx, account_id: str, conversation_id: str) -> bool:
    """Whether messages wait there to be sent later."""
    found = await tx.execute(_WAITING, {"account": account_id, "conversation": conversation_id})
    return bool(found.scalar_one())


async def read(tx: Tx, account_id: str, merge_id: str) -> Row | None:
    """One merge, as it stays while its base is locked."""
    return next(plain(await tx.execute(_READ, {"account": account_id, "id": merge_id})), None)


def join_of(row: Row) -> Join:
    """The merge that a row is."""
    values = {name: row[name] for name in Join.__slots__}
    return Join(**{**values, "labels": tuple(row["labels"]), "participant_ids": tuple(row["participant_ids"])})


async def of_base(tx: Tx, account_id: str, base_id: str) -> Sequence[Row]:
    """The merges into a conversation that were not undone, the newest first; two hundred at most."""
    return list(plain(await tx.execute(_OF_BASE, {"account": account_id, "base": base_id})))


async def undone(tx: Tx, account_id: str, record: Join, at: datetime) -> None:
    """A merge was undone."""
    await tx.execute(_UNDONE, {"account": account_id, "id": record.id, "at": at})
    await tx.execute(_ABSORBED, {"account": account_id, "id": record.base_id, "by": -1})


async def parts(tx: Tx, account_id: str, bases: Collection[str]) -> dict[str, list[str]]:
    """By base, the conversations that are part of it; bases without are left out."""
    found: dict[str, list[str]] = {}
    for row in await tx.execute(_PARTS, {"account": account_id, "bases": sorted(bases)}):
        found.setdefault(row.base_id, []).append(row.other_id)
    return found


async def see_parts(tx: Tx, account_id: str, agent_id: str, base_id: str, through: int) -> None:
    """Who has seen a conversation up to here has seen what is shown before that of its parts, too."""
    await tx.execute(_SEE_PARTS, {"account": account_id, "agent": agent_id, "base": base_id, "through": through})


async def page(
    tx: Tx, account_id: str, conversation_id: str, limit: int, after: tuple[int, int] | None, *, newest_first: bool
) -> Sequence[Row]:
    """One page of the messages of a conversation with parts; each row has its ``place`` and ``part``."""
    place, part = after or (None, None)
    given = {"account": account_id, "conversation": conversation_id, "limit": limit + 1, "place": place, "part": part}
    return list(plain(await tx.execute(_NEWEST if newest_first else _OLDEST, given)))
