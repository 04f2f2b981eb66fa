"""SQL of the order in which conversations wait: `Held.place`, in the database's words."""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, Double, SmallInteger, bindparam, func, literal, tuple_
from sqlalchemy.dialects.postgresql import UUID

from relevo.assignment.domain.held import Place

Parts = tuple[ColumnElement[Any], ColumnElement[Any], ColumnElement[Any]]


def listed(alias: str, worth: int | None) -> str:
    """A place of this table's rows as text; `:worth` must be given where it is not None.

    An index has the places by rank alone: else all that waits is read to tell a place.
    """
    if worth is None:
        return f"-{alias}.rank, {alias}.queued_at, {alias}.conversation_id"
    headstart = f"make_interval(secs => cast(:worth as double precision) * {alias}.rank)"
    return f"{alias}.queued_at - {headstart}, {alias}.conversation_id"


def parts(columns: Any, worth: int | None) -> Parts:
    """Likewise of columns (rank, queued_at, conversation_id): what a page is ordered by, and a cursor compared with."""
    if worth is None:
        return -columns.rank, columns.queued_at, columns.conversation_id
    headstart = func.make_interval(0, 0, 0, 0, 0, 0, literal(float(worth), Double()) * columns.rank)
    return literal(0, SmallInteger()), columns.queued_at - headstart, columns.conversation_id


def beyond(order: Parts, place: Place) -> ColumnElement[bool]:
    """What stands behind a place."""
    rank, at, last = place
    return tuple_(*order) > tuple_(
        bindparam(None, rank, type_=SmallInteger()),
        bindparam(None, at, type_=DateTime(timezone=True)),
        bindparam(None, last, type_=UUID(as_uuid=False)),
    )
