"""Units of capacity: what agents can carry, and what each conversation takes of it.

Inside they are whole hundredths, so that sums and comparisons are exact; outside they are numbers (half a unit: 0.5).
A conversation fits where all of it does: what is taken, and the whole of what it takes, is at most the capacity.
"""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

UNIT: Final = 100
"""Hundredths of a unit."""
HEAVIEST: Final = 100 * UNIT


def hundredths(units: Any) -> int:
    """Units, as JSON has them, in hundredths. Raises ValueError for what is no number, or is finer than that."""
    try:
        exact = Decimal(str(units)) * UNIT
    except InvalidOperation:
        exact = Decimal("NaN")
    if isinstance(units, bool) or not exact.is_finite() or exact != exact.to_integral_value():
        raise ValueError("must be a number with at most two decimals")
    return int(exact)


def told(taken: int) -> float:
    """Hundredths as a number of units, to be shown."""
    return taken / UNIT


Weight = Annotated[
    int,
    Field(ge=1, le=HEAVIEST),
    BeforeValidator(hundredths),
    PlainSerializer(told, return_type=float, when_used="json"),
    WithJsonSchema({"type": "number", "minimum": 0.01, "maximum": 100, "multipleOf": 0.01}),
]
"""How many units a conversation takes; hundredths in memory, units in JSON."""

Share = Annotated[
    int,
    Field(ge=0, lt=UNIT),
    BeforeValidator(hundredths),
    PlainSerializer(told, return_type=float, when_used="json"),
    WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.01}),
]
"""A part of the whole, from 0 to below 1; hundredths in memory."""


def said(taken: int) -> tuple[str, str]:
    """Hundredths as a number of units in words, in Spanish and English: 1,5 and 1.5."""
    whole, rest = divmod(taken, UNIT)
    decimals = f"{rest:02}".rstrip("0")
    return (f"{whole},{decimals}", f"{whole}.{decimals}") if decimals else (str(whole), str(whole))
