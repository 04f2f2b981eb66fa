"""Values of leaves and facts, brought to the form in which they are compared. Both sides use the same functions."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import re2

from relevo.kernel.text import clean, fold, fold_accents

MAX_TEXT: Final = 1_000
MAX_LIST: Final = 500
MAX_PATTERN: Final = 500
MAX_DAYS: Final = 36_500
# Bounds what one evaluation can cost; RE2 is linear in the text.
MATCHED_CHARACTERS: Final = 20_000
_PATTERN_MEMORY: Final = 1 << 19
_DATE: Final = len("2026-01-31")


class BadValue(ValueError):
    """A value does not suit its operator. `path` points into the value."""

    def __init__(self, code: str, details: Mapping[str, Any] | None = None, path: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.details = details or {}
        self.path = path


def operand(kind: str, operator: str, value: Any, *, fold_n: bool) -> Any:
    """The value ready to compare: folded text, a tuple of them, a compiled pattern, a number, a time. Raises BadValue."""
    match operator:
        case "present" | "absent":
            if value is not None:
                raise BadValue("value_unwanted")
            return None
        case "matches":
            return _pattern(value, fold_n=fold_n)
        case "any_word":
            items = value.split() if isinstance(value, str) else value
            return tuple(_text(item, f"/{at}", fold_n=fold_n) for at, item in enumerate(_list(items)))
        case "contains_any" | "contains_all" | "contains_none":
            return frozenset(_keyword(item, f"/{at}") for at, item in enumerate(_list(value)))
        case "in":
            return frozenset(_one(kind, item, f"/{at}", fold_n=fold_n) for at, item in enumerate(_list(value)))
        case "days_before":
            return _days(value)
        case _:
            if kind == "list":
                return frozenset(_keyword(item, f"/{at}") for at, item in enumerate(_list(value)))
            return _one(kind, value, "", fold_n=fold_n)


def _one(kind: str, value: Any, path: str, *, fold_n: bool) -> Any:
    match kind:
        case "text":
            return _text(value, path, fold_n=fold_n)
        case "keyword":
            return _keyword(value, path)
        case "number":
            if (number := as_number(value)) is None or isinstance(value, str):
                raise BadValue("value_number", path=path)
            return number
        case "datetime":
            if (moment := as_time(value)) is None:
                raise BadValue("value_time", path=path)
            return moment
        case _:
            if not isinstance(value, bool):
                raise BadValue("value_boolean", path=path)
            return value


def _text(value: Any, path: str, *, fold_n: bool) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not (folded := fold(clean(value), fold_n=fold_n)).strip():
        raise BadValue("value_text", {"limit": MAX_TEXT}, path)
    return folded


def _keyword(value: Any, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or clean(value) != value:
        raise BadValue("value_text", {"limit": MAX_TEXT}, path)
    return value


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_LIST:
        raise BadValue("value_list", {"limit": MAX_LIST})
    return value


def _days(value: Any) -> timedelta:
    number = None if isinstance(value, str) else as_number(value)
    if number is None or not 0 <= number <= MAX_DAYS:
        raise BadValue("value_days", {"limit": MAX_DAYS})
    return timedelta(days=float(number))


def _pattern(value: Any, *, fold_n: bool) -> Any:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATTERN or clean(value) != value:
        raise BadValue("value_pattern", {"fault": "empty, too long, or not text", "limit": MAX_PATTERN})
    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(fold_accents(value, fold_n=fold_n), options)
    except re2.error as error:
        fault = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise BadValue("value_pattern", {"fault": fault, "limit": MAX_PATTERN}) from None


def as_number(fact: Any) -> int | Decimal | None:
    """A finite number, exact as written (0.1 is a tenth); digits in a string count, as decimals in JSON come so."""
    if isinstance(fact, bool):
        return None
    if isinstance(fact, int):
        return fact
    if isinstance(fact, float):
        return Decimal(repr(fact)) if math.isfinite(fact) else None
    if isinstance(fact, str):
        try:
            fact = Decimal(fact) if len(fact) <= 50 else None
        except ArithmeticError:
            return None
    return fact if isinstance(fact, Decimal) and fact.is_finite() else None


def as_time(fact: Any) -> datetime | None:
    """A time in UTC, from an aware datetime or RFC 3339 text, or the first moment of a date (YYYY-MM-DD) in UTC.

    None for anything else, naive times included.
    """
    if isinstance(fact, str):
        try:
            if len(fact) == _DATE:
                return datetime.combine(date.fromisoformat(fact), time(), UTC)
            fact = datetime.fromisoformat(fact) if len(fact) <= 40 else None
        except ValueError:
            return None
    if not isinstance(fact, datetime) or fact.tzinfo is None:
        return None
    try:
        return fact.astimezone(UTC)
    except OverflowError:
        return None


def as_list(fact: Any) -> frozenset[str] | None:
    """The elements of a list fact, order and repetition aside."""
    if not isinstance(fact, list | tuple | frozenset | set):
        return None
    return frozenset(item for item in fact if isinstance(item, str))
