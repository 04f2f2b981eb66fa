"""Conditions as SQL over columns: the same meaning as in memory, for text that went through `kernel.text.clean`."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Numeric,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal,
    not_,
    or_,
    true,
)
from sqlalchemy.types import TypeEngine

from relevo.kernel.conditions.model import NEGATIONS, AllOf, AnyOf, Condition, FieldType, Leaf, Node, NotOf, Operator
from relevo.kernel.conditions.operands import operand
from relevo.kernel.text import fold_sql, words_pattern


class NotExpressible(ValueError):
    """SQL cannot say this: `matches` (another regular-expression language) and `plural` (no such stemmer)."""

    def __init__(self, field: str, what: str) -> None:
        self.field = field
        self.what = what
        super().__init__(f'the filter on "{field}" uses "{what}", which lists cannot do: choose another operator')


def to_sql(
    condition: Condition, columns: Mapping[str, ColumnElement[Any]], *, now: datetime | None = None
) -> ColumnElement[bool]:
    """The condition over `columns` (field → column: text for text and keyword, numeric or integer for number,
    timestamptz for datetime, text array for list, boolean). Never NULL, so it may be negated.

    `now` is what `days_before` counts from. Raises NotExpressible; KeyError for a field without a column; ValueError
    for `days_before` without an aware `now`.
    """
    return _node(condition.node, condition.types, columns, now)


def _node(
    node: Node, types: Mapping[str, FieldType], columns: Mapping[str, ColumnElement[Any]], now: datetime | None
) -> ColumnElement[bool]:
    match node:
        case AllOf():
            return and_(true(), *(_node(child, types, columns, now) for child in node.all))
        case AnyOf():
            return or_(*(_node(child, types, columns, now) for child in node.any)).self_group()
        case NotOf():
            return not_(_node(node.negated, types, columns, now))
        case Leaf():
            positive = NEGATIONS.get(node.operator)
            if positive is None:
                return _known(_leaf(node, node.operator, types[node.field], columns[node.field], now))
            return not_(_known(_leaf(node, positive, types[node.field], columns[node.field], now)))


def _known(test: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.coalesce(test, False, type_=Boolean)


def _leaf(
    leaf: Leaf, operator: Operator, kind: FieldType, column: ColumnElement[Any], now: datetime | None
) -> ColumnElement[bool]:
    if operator is Operator.MATCHES:
        raise NotExpressible(leaf.field, "matches")
    if kind is FieldType.ATTRIBUTE:
        raise NotExpressible(leaf.field, "an attribute of no known type")
    if leaf.plural:
        raise NotExpressible(leaf.field, "plural")
    value = operand(kind.value, operator.value, leaf.value, fold_n=leaf.fold_n)
    if operator is Operator.PRESENT:
        return _present(kind, column)
    match kind:
        case FieldType.TEXT:
            return _text(leaf, operator, fold_sql(column, fold_n=leaf.fold_n), value)
        case FieldType.LIST:
            return _list(operator, column, sorted(value))
        case FieldType.DATETIME if operator is Operator.DAYS_BEFORE:
            if now is None or now.tzinfo is None:
                raise ValueError("days_before needs now, an aware time")
            return column <= literal(now.astimezone(UTC) - value, DateTime(timezone=True))
        case _:
            return _scalar(operator, column, value)


def _present(kind: FieldType, column: ColumnElement[Any]) -> ColumnElement[bool]:
    match kind:
        case FieldType.TEXT | FieldType.KEYWORD:
            return column != literal("", Text)
        case FieldType.LIST:
            return func.cardinality(column) > 0
        case _:
            return column.is_not(None)


def _text(leaf: Leaf, operator: Operator, column: ColumnElement[str], value: Any) -> ColumnElement[bool]:
    match operator:
        case Operator.CONTAINS | Operator.ANY_WORD:
            phrases = (value,) if isinstance(value, str) else value
            if leaf.whole_words:
                return _one_of_ways(column.op("~", is_comparison=True)(words_pattern(phrase)) for phrase in phrases)
            return _one_of_ways(func.strpos(column, phrase) > 0 for phrase in phrases)
        case _:
            return _scalar(operator, column, value)


def _one_of_ways(ways: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    return or_(*ways).self_group()


def _list(operator: Operator, column: ColumnElement[Any], values: list[str]) -> ColumnElement[bool]:
    wanted = cast(bindparam(None, values, type_=ARRAY(Text)), ARRAY(Text))
    match operator:
        case Operator.CONTAINS_ANY:
            return column.op("&&", is_comparison=True)(wanted)
        case Operator.CONTAINS_ALL:
            return column.op("@>", is_comparison=True)(wanted)
        case _:
            return and_(
                column.op("@>", is_comparison=True)(wanted), column.op("<@", is_comparison=True)(wanted)
            ).self_group()


def _scalar(operator: Operator, column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    match operator:
        case Operator.IN:
            items = sorted(value)
            kind = _kind(items[0])
            if any(isinstance(_kind(item), Numeric) for item in items):  # one element type for the whole array
                items, kind = [Decimal(item) for item in items], Numeric()
            return column == any_(cast(bindparam(None, items, type_=ARRAY(kind)), ARRAY(kind)))
        case Operator.STARTS_WITH:
            return func.starts_with(column, literal(value, Text), type_=Boolean)
        case Operator.GREATER:
            return column > literal(value, _kind(value))
        case Operator.LESS:
            return column < literal(value, _kind(value))
        case Operator.AT_LEAST:
            return column >= literal(value, _kind(value))
        case Operator.AT_MOST:
            return column <= literal(value, _kind(value))
        case _:
            return column == literal(value, _kind(value))


def _kind(value: Any) -> TypeEngine[Any]:
    if isinstance(value, bool):
        return Boolean()
    if isinstance(value, datetime):
        return DateTime(timezone=True)
    if isinstance(value, int) and abs(value) < 2**63:
        return BigInteger()
    return Text() if isinstance(value, str) else Numeric()
