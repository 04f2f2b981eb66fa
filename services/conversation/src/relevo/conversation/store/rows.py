"""What all statements share: how rows are named and read."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal, tuple_

from relevo.chassis.statements import Rows

Key = tuple[str, str]
"""Account id and id: no row is named without its account."""

Row = Mapping[str, Any]
"""One row, by column name."""


class LostRace(RuntimeError):
    """Another transaction did the same just now; done again, this one finds what that one wrote."""


def plain(rows: Rows) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries by column name."""
    return iter(rows.mappings())


def json_list(items: Iterable[str]) -> str:
    """The JSON of a list of what is JSON already."""
    return f"[{','.join(items)}]"


def older(moment: ColumnElement[datetime], id_: ColumnElement[str], after: tuple[datetime, str]) -> ColumnElement[bool]:
    """Beyond a place in a list that goes from new to old."""
    return tuple_(moment, id_) < tuple_(literal(after[0], moment.type), literal(after[1], id_.type))
