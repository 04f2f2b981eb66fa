"""Counts of the standing views, from rows that the database keeps with every change of a conversation.

Triggers add to `conversation_count_changes` what each statement changed; now and then these are folded into
`conversation_counts`. Both together are exact at every moment (docs/adr/0017).
"""

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Table,
    Uuid,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from relevo.chassis.database import Tx
from relevo.conversation.filters import UNATTENDED, UNRESOLVED
from relevo.conversation.lists import FACTS
from relevo.conversation.tables import conversations, metadata
from relevo.kernel.access import ConversationColumns, Viewer, visible

_ID: Final = Uuid(as_uuid=False)
_NOBODY: Final[dict[str, ColumnElement[Any]]] = {
    "participant_ids": cast(literal([], ARRAY(_ID)), ARRAY(_ID)),
    "owner_id": cast(null(), _ID),
}


def _table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("account_id", _ID, nullable=False),
        Column("inbox_id", _ID, nullable=False),
        Column("team_id", _ID),
        Column("assignee_id", _ID),
        Column("unattended", Boolean, nullable=False),
        Column("n", BigInteger, nullable=False),
    )


_counts = _table("conversation_counts")
_changes = _table("conversation_count_changes")
_c = conversations.c


async def standing(tx: Tx, viewer: Viewer) -> dict[str, int]:
    """How many unresolved conversations the viewer sees: `open` (all of them), `unassigned`, `mine`, `unattended`.

    What is kept are counts of groups, which lack what concerns single conversations: participants and the owner of the
    contact. What the viewer sees for these alone is counted one by one; nobody takes part in many at a time.
    """
    groups = union_all(
        *(select(table).where(table.c.account_id == viewer.account_id) for table in (_counts, _changes))
    ).subquery("groups")
    g = groups.c
    by_group = ConversationColumns.of({**dict(g.items()), **_NOBODY})
    counted = select(*_sums(viewer, g.n, g.assignee_id, g.unattended)).where(visible(viewer, by_group))
    me = viewer.agent_id
    if me is None:
        return _ints((await tx.execute(counted)).mappings().one())
    # Each way has an index; both together have none.
    ways = [
        select(_c.id, _c.assignee_id, literal_column(f"({UNATTENDED.text})", Boolean).label("unattended")).where(
            _c.account_id == viewer.account_id,
            UNRESOLVED,
            way,
            visible(viewer, FACTS),
            visible(viewer, replace(FACTS, **_NOBODY)).is_not(True),
        )
        for way in (_c.owner_id == me, _c.participant_ids.contains([me]))
    ]
    own = union(*ways).subquery("own").c
    alone = select(*_sums(viewer, literal(1), own.assignee_id, own.unattended))
    found = [_ints(row) for row in (await tx.execute(union_all(counted, alone))).mappings()]
    return {name: sum(row[name] for row in found) for name in found[0]}


def _sums(viewer: Viewer, n: Any, assignee_id: Any, unattended: Any) -> list[Any]:
    sums = {"open": func.sum(n), "unassigned": func.sum(n).filter(assignee_id.is_(None))}
    if viewer.agent_id is not None:
        sums["mine"] = func.sum(n).filter(assignee_id == viewer.agent_id)
    sums["unattended"] = func.sum(n).filter(unattended)
    return [func.coalesce(total, text("0")).label(name) for name, total in sums.items()]


def _ints(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in row.items()}
