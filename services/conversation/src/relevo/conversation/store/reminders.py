"""Reminders that wait."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, exists, literal, or_, select, text, tuple_

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ReminderSnapshot
from relevo.conversation.domain.reminders import Answers
from relevo.conversation.lists import FACTS
from relevo.conversation.store.rows import Key, Row, plain
from relevo.conversation.tables import conversations, messages, reminders
from relevo.kernel.access import Viewer, visible

_r, _c, _m = reminders.c, conversations.c, messages.c

_CUSTOMER: Final = _m.kind == "incoming"
_PERSON: Final = and_(_m.kind == "outgoing", _m.author.op("~")("^(agent|key):"))
"""Whose messages are answers: the customer's, and those of somebody of the team."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A reminder that waits. Answers are messages after ``sequence``."""

    account_id: str
    conversation_id: str
    reminder: ReminderSnapshot
    cycle: int
    sequence: int


_ADD = text(
    """
    insert into reminders (id, account_id, conversation_id, agent_id, text, unless, remind, set_by, set_at, due_at,
                           cycle, sequence)
    values (:id, :account, :conversation, :agent, :text, :unless, :to, :set_by, :set_at, :due_at, :cycle, :sequence)
    """
)
_FIND = text(
    """
    select cast(r.id as text) as id, cast(r.account_id as text) as account_id,
        cast(r.conversation_id as text) as conversation_id, cast(r.agent_id as text) as agent_id, r.text, r.unless,
        r.remind, r.set_by, r.set_at, r.due_at, r.cycle, r.sequence
    from reminders r
    where (r.account_id, r.id) in (
        select k.account_id, k.id from unnest(cast(:accounts as uuid[]), cast(:ids as uuid[])) as k(account_id, id)
    )
    """
)
_DROP = text("delete from reminders where account_id = :account and id = any(cast(:ids as uuid[]))")
_OF_CONVERSATION = text(
    """
    select cast(id as text) as id, set_by from reminders
    where account_id = :account and conversation_id = :conversation
    """
)


async def add(tx: Tx, kept: Kept) -> None:
    """Keep one until it is due."""
    one = kept.reminder
    await tx.execute(
        _ADD,
        {
            "id": one.id,
            "account": kept.account_id,
            "conversation": kept.conversation_id,
            "agent": one.agent_id,
            "text": one.text,
            "unless": one.unless,
            "to": one.to,
            "set_by": one.set_by,
            "set_at": one.set_at,
            "due_at": one.due_at,
            "cycle": kept.cycle,
            "sequence": kept.sequence,
        },
    )


async def find(tx: Tx, keys: Iterable[Key]) -> dict[str, Kept]:
    """Those that wait, by id."""
    wanted = list(keys)
    given = {"accounts": [a for a, _ in wanted], "ids": [i for _, i in wanted]}
    rows = plain(await tx.execute(_FIND, given)) if wanted else iter(())
    return {row["id"]: kept_of(row) for row in rows}


async def answers(tx: Tx, found: Mapping[str, Kept]) -> dict[str, Answers]:
    """Who has answered since they were set, of those that still wait, locked; their conversations are locked before."""
    if not found:
        return {}
    # Read after the conversations are locked: no answer can come in between.
    statement = (
        select(_r.id, _said_since(_CUSTOMER).label("customer"), _said_since(_PERSON).label("agent"))
        .where(_r.account_id.in_(sorted({one.account_id for one in found.values()})), _r.id.in_(sorted(found)))
        .with_for_update(of=reminders)
    )
    return {row["id"]: Answers(row["customer"], row["agent"]) for row in plain(await tx.execute(statement))}


async def drop(tx: Tx, account_id: str, ids: Iterable[str]) -> None:
    """They wait no more."""
    await tx.execute(_DROP, {"account": account_id, "ids": sorted(ids)})


async def waiting(tx: Tx, account_id: str, conversation_id: str) -> dict[str, str]:
    """Who set each of those that wait in a conversation, moot ones too."""
    rows = await tx.execute(_OF_CONVERSATION, {"account": account_id, "conversation": conversation_id})
    return {row.id: row.set_by for row in rows}


def page_of(
    viewer: Viewer, limit: int, after: tuple[datetime, str] | None, *, conversation_id: str | None = None
) -> Select[Any]:
    """The statement of one page of those that wait and are not moot, the next first, in conversations that one sees.

    Of one conversation all; else those that one set, or that would remind one as things are now.
    """
    wanted: list[ColumnElement[bool]] = [
        _r.account_id == viewer.account_id,
        visible(viewer, FACTS),
        _c.status != "resolved",
        _c.cycle == _r.cycle,
        _not_answered("customer_answers", _CUSTOMER),
        _not_answered("agent_answers", _PERSON),
    ]
    if conversation_id is not None:
        wanted.append(_r.conversation_id == conversation_id)
    else:
        wanted.append(_mine(viewer))
    if after is not None:
        wanted.append(
            tuple_(_r.due_at, _r.id) > tuple_(literal(after[0], _r.due_at.type), literal(after[1], _r.id.type))
        )
    return (
        select(reminders)
        .join_from(reminders, conversations, and_(_c.id == _r.conversation_id, _c.account_id == _r.account_id))
        .where(*wanted)
        .order_by(_r.due_at, _r.id)
        .limit(limit + 1)
    )


def _mine(viewer: Viewer) -> ColumnElement[bool]:
    me = viewer.agent_id
    ways = [_r.set_by == f"agent:{me}", _r.agent_id == me, and_(_r.remind == "assignee", _c.assignee_id == me)]
    if viewer.team_ids:
        ways.append(and_(_r.remind == "team", _c.team_id.in_(sorted(viewer.team_ids))))
    return or_(*ways)


def _not_answered(unless: str, said: ColumnElement[bool]) -> ColumnElement[bool]:
    return or_(_r.unless.not_in([unless, "anyone_answers"]), ~_said_since(said))


def _said_since(said: ColumnElement[bool]) -> ColumnElement[bool]:
    since = (_m.account_id == _r.account_id, _m.conversation_id == _r.conversation_id, _m.sequence > _r.sequence)
    return exists(select(literal(1)).where(*since, said))


async def page(tx: Tx, statement: Select[Any]) -> Sequence[Row]:
    """The rows of a page."""
    return list(plain(await tx.execute(statement)))


def kept_of(row: Mapping[str, Any]) -> Kept:
    """The reminder within a row."""
    return Kept(
        account_id=row["account_id"],
        conversation_id=row["conversation_id"],
        reminder=ReminderSnapshot.model_validate({**row, "to": row["remind"]}),
        cycle=row["cycle"],
        sequence=row["sequence"],
    )
