"""Finding a person or a team by a part of their name: the same everywhere that somebody is chosen from a list.

Case and accents do not count, and n finds ñ: who types looks for somebody whom they know, not for a spelling. Those
whose name begins so come first, then those with another word that does, then those who have it anywhere.
"""

from typing import Any

from sqlalchemy import ColumnElement, func

from relevo.kernel.text import clean, fold, fold_sql


def folded_name(name: str) -> str:
    """A name, or a part of one that was typed, as names are compared."""
    return fold(clean(name), fold_n=True).strip()


def name_rank(name: str, wanted: str) -> int | None:
    """How well a name fits what is wanted (folded): 1 begins so, 2 a word of it does, 3 has it; None: not at all."""
    folded = folded_name(name)
    if wanted not in folded:
        return None
    if folded.startswith(wanted):
        return 1
    return 2 if f" {wanted}" in folded else 3


def folded_name_sql(column: ColumnElement[Any]) -> ColumnElement[str]:
    """`folded_name` as an immutable expression, for a column that is generated from a name."""
    return func.btrim(fold_sql(func.normalize(column), fold_n=True))
