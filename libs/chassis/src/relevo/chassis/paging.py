"""Lists over HTTP: `limit`, an opaque `cursor`, and `{"items", "next"}`.

A cursor holds the sort key of the last item shown, so that nothing is missed or repeated while rows move.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from relevo.chassis.problems import FieldError, Problem

T = TypeVar("T")
Row = TypeVar("Row")

MAX_LIMIT = 200
FIRST_ID: Final = str(UUID(int=0))
"""Stands before every id: where a list by id begins."""
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")]


class Page(BaseModel, Generic[T]):
    """One page of a list; `next` is the cursor of the page after it, null on the last one."""

    items: list[T]
    next: str | None = Field(default=None, description="Cursor of the next page; null when this is the last.")


def encode(*key: str | float | bool | None) -> str:
    """The cursor after the item with this sort key (times as RFC 3339 text)."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str, *types: type) -> tuple[Any, ...]:
    """The sort key within a cursor, whose parts must be of these types, in this order.

    UUID stands for an id, which is given as text; datetime for a moment, which is given in UTC.
    Raises Problem 422 when it is not one of ours.
    """
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeDecodeError, ValueError, RecursionError):
        raise invalid_cursor() from None
    if not isinstance(key, list) or len(key) != len(types):
        raise invalid_cursor()
    return tuple(_part(part, kind) for part, kind in zip(key, types, strict=True))


def page(
    rows: Sequence[Row],
    limit: int,
    key: Callable[[Row], tuple[str | float | bool | None, ...]],
    item: Callable[[Row], T],
) -> Page[T]:
    """A page from `limit + 1` rows asked of the database: the one too many tells that there is a next page."""
    shown = rows[:limit]
    following = encode(*key(shown[-1])) if len(rows) > limit else None
    return Page(items=[item(row) for row in shown], next=following)


def _part(part: Any, kind: type) -> Any:
    read = _READ.get(kind)
    fits = type(part) is (str if read else kind)
    if not fits or not _storable(part):
        raise invalid_cursor()
    try:
        return read(part) if read else part
    except (ValueError, OverflowError):
        raise invalid_cursor() from None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _id(text: str) -> str:
    return str(UUID(text))


_READ: Final[Mapping[type, Callable[[str], Any]]] = {UUID: _id, datetime: _moment}


def _storable(part: str | float | bool | None) -> bool:
    """Whether the database can compare with it: anybody can make up a cursor."""
    if isinstance(part, str):
        return "\0" not in part and not any("\ud800" <= character <= "\udfff" for character in part)
    return part is None or -(2**63) <= part < 2**63


def invalid_cursor() -> Problem:
    """422: a cursor that was not given out for this list."""
    return Problem(
        422,
        "invalid_cursor",
        es="El cursor no es válido: usa el valor «next» de la página anterior, o ninguno para empezar.",
        en="The cursor is not valid: use the `next` of the page before, or none to begin.",
        errors=(FieldError("/query/cursor", es="No es un cursor de esta lista.", en="Not a cursor of this list."),),
    )
