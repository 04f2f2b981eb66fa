"""Saved views."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Table, Text, Uuid, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import metadata
from relevo.kernel.access import Viewer

_ID: Final = Uuid(as_uuid=False)
views = Table(
    "views",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("agent_id", _ID),
    Column("shared", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("filters", JSONB, nullable=False),
    Column("sort", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
_v = views.c
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('views:' || cast(:account as text), 0))")


def _of(viewer: Viewer) -> list[Any]:
    mine = [] if viewer.agent_id is None else [_v.agent_id == viewer.agent_id]
    return [_v.account_id == viewer.account_id, or_(_v.shared, *mine)]


async def all_of(tx: Tx, viewer: Viewer) -> Sequence[Row]:
    """The views that somebody has: their own and the shared ones, by name."""
    return list(plain(await tx.execute(select(views).where(*_of(viewer)).order_by(func.lower(_v.name), _v.id))))


async def read(tx: Tx, viewer: Viewer, view_id: str, *, lock: bool = False) -> Row | None:
    """One of them."""
    statement = select(views).where(*_of(viewer), _v.id == view_id)
    return next(plain(await tx.execute(statement.with_for_update() if lock else statement)), None)


async def lock(tx: Tx, account_id: str) -> None:
    """Let nobody else add views of the account until the transaction ends."""
    await tx.execute(_LOCK, {"account": account_id})


async def count(tx: Tx, account_id: str, agent_id: str | None) -> int:
    """How many views an agent made, or with None how many are shared."""
    whose = _v.shared if agent_id is None else _v.agent_id == agent_id
    found = await tx.execute(select(func.count()).select_from(views).where(_v.account_id == account_id, whose))
    return int(found.scalar_one())


async def save(tx: Tx, view: Row) -> None:
    """Write a view, new or locked."""
    statement = insert(views).values(**view)
    kept = {name: statement.excluded[name] for name in ("shared", "name", "filters", "sort", "version", "updated_at")}
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[_v.id], set_=kept, where=_v.account_id == view["account_id"])
    )


async def remove(tx: Tx, account_id: str, view_id: str) -> None:
    """Delete a view."""
    await tx.execute(delete(views).where(_v.account_id == account_id, _v.id == view_id))
