"""Conditions in memory: compiled to closures once, judged many times, and explained leaf by leaf."""

import operator as op
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from relevo.kernel.conditions.model import (
    NEGATIONS,
    AllOf,
    AnyOf,
    Condition,
    FieldType,
    Leaf,
    Node,
    NotOf,
    Operator,
    asked_as,
)
from relevo.kernel.conditions.model import leaves as leaves_of
from relevo.kernel.conditions.operands import MATCHED_CHARACTERS, as_list, as_number, as_time, operand
from relevo.kernel.text import contains_words, fold, stems, words

# Other forms of a word are looked for in so many words at the beginning of a text: stemming is slow.
STEMMED_WORDS: Final = 2_000


class Facts:
    """What is judged: flat names to values, with what is derived of them kept, so that many conditions share it.

    The values must not change while it is in use.
    """

    __slots__ = ("_derived", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._derived: dict[tuple[str, bool, str], Any] = {}

    def get(self, field: str) -> Any:
        return self._values.get(field)

    def folded(self, field: str, *, fold_n: bool) -> str | None:
        """The text folded, or None when the fact is no text."""
        key = (field, fold_n, "text")
        if key not in self._derived:
            value = self._values.get(field)
            self._derived[key] = fold(value, fold_n=fold_n) if isinstance(value, str) else None
        text: str | None = self._derived[key]
        return text

    def words(self, field: str, *, fold_n: bool) -> list[str]:
        """The folded words of the text, the first `STEMMED_WORDS` of them."""
        key = (field, fold_n, "words")
        if key not in self._derived:
            self._derived[key] = words(self.folded(field, fold_n=fold_n) or "")[:STEMMED_WORDS]
        found: list[str] = self._derived[key]
        return found

    def now(self) -> datetime:
        """The time of the event judged. Raises LookupError without it: a condition never asks the clock."""
        now = as_time(self._values.get("now"))
        if now is None:
            raise LookupError('facts need "now", an aware time, for the operator days_before')
        return now


Predicate = Callable[[Facts | Mapping[str, Any]], bool]
_Test = Callable[[Facts], bool]


def compile_condition(condition: Condition) -> Predicate:
    """The condition as a function of facts. Pass the same `Facts` to many conditions to fold its texts only once.

    The function raises LookupError if the condition uses `days_before` and the facts have no `now`; nothing else.
    """
    test = _node(condition.node, condition.types)

    def judge(facts: Facts | Mapping[str, Any]) -> bool:
        return test(facts if isinstance(facts, Facts) else Facts(facts))

    return judge


@dataclass(frozen=True, slots=True)
class LeafOutcome:
    """One leaf judged: `actual` is the fact as it was given, None when there was none."""

    path: str
    leaf: Leaf
    actual: Any
    outcome: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a condition did or did not hold: the result and every leaf, also those that a judgement would skip."""

    outcome: bool
    leaves: tuple[LeafOutcome, ...]


def explain(condition: Condition, facts: Facts | Mapping[str, Any]) -> Explanation:
    """Judge every leaf. The outcome is what `compile_condition` gives for the same facts."""
    given = facts if isinstance(facts, Facts) else Facts(facts)
    outcomes = tuple(
        LeafOutcome(path, leaf, given.get(leaf.field), _leaf(leaf, condition.types[leaf.field])(given))
        for path, leaf in leaves_of(condition.node)
    )
    return Explanation(compile_condition(condition)(given), outcomes)


def _node(node: Node, types: Mapping[str, FieldType]) -> _Test:
    match node:
        case AllOf():
            return _all([_node(child, types) for child in node.all])
        case AnyOf():
            return _any([_node(child, types) for child in node.any])
        case NotOf():
            return _not(_node(node.negated, types))
        case Leaf():
            return _leaf(node, types[node.field])


def _all(tests: list[_Test]) -> _Test:
    def judge(facts: Facts) -> bool:
        for test in tests:  # noqa: SIM110  # a loop is twice as fast as all() with a generator
            if not test(facts):
                return False
        return True

    return judge


def _any(tests: list[_Test]) -> _Test:
    def judge(facts: Facts) -> bool:
        for test in tests:  # noqa: SIM110
            if test(facts):
                return True
        return False

    return judge


def _not(test: _Test) -> _Test:
    return lambda facts: not test(facts)


def _leaf(leaf: Leaf, kind: FieldType) -> _Test:
    positive = NEGATIONS.get(leaf.operator)
    if positive is not None:
        return _not(_leaf(leaf.model_copy(update={"operator": positive}), kind))
    field, declared = leaf.field, kind
    kind = asked_as(kind, leaf.operator, leaf.value)
    value = operand(kind.value, leaf.operator.value, leaf.value, fold_n=leaf.fold_n)
    if leaf.operator is Operator.PRESENT:
        return _present(field, declared)
    match kind:
        case FieldType.TEXT:
            return _text(leaf, value)
        case FieldType.KEYWORD:
            return _compare(field, _as_keyword, leaf.operator, value)
        case FieldType.NUMBER:
            return _compare(field, as_number, leaf.operator, value)
        case FieldType.DATETIME:
            return _compare(field, as_time, leaf.operator, value)
        case FieldType.LIST:
            return _compare(field, as_list, leaf.operator, value)
        case FieldType.BOOLEAN | FieldType.ATTRIBUTE:
            return _compare(field, _as_boolean, leaf.operator, value)


def _as_keyword(fact: Any) -> str | None:
    return fact if isinstance(fact, str) else None


def _as_boolean(fact: Any) -> bool | None:
    return fact if isinstance(fact, bool) else None


_READ: Final[Mapping[FieldType, Callable[[Any], Any]]] = {
    FieldType.TEXT: _as_keyword,
    FieldType.KEYWORD: _as_keyword,
    FieldType.NUMBER: as_number,
    FieldType.DATETIME: as_time,
    FieldType.LIST: as_list,
    FieldType.BOOLEAN: _as_boolean,
    FieldType.ATTRIBUTE: lambda fact: fact,
}


def _present(field: str, kind: FieldType) -> _Test:
    read = _READ[kind]
    empty: tuple[Any, ...] = (None, "", frozenset())

    def judge(facts: Facts) -> bool:
        fact = facts.get(field)
        return fact is not None and read(fact) not in empty

    return judge


def _compare(field: str, read: Callable[[Any], Any], operator: Operator, value: Any) -> _Test:
    compare: Callable[[Any], bool]
    match operator:
        case Operator.EQUALS:

            def compare(fact: Any) -> bool:
                return bool(fact == value)

        case Operator.IN:
            compare = value.__contains__
        case Operator.STARTS_WITH:
            return _starts(field, value)
        case Operator.CONTAINS_ANY:

            def compare(fact: frozenset[str]) -> bool:
                return not fact.isdisjoint(value)

        case Operator.CONTAINS_ALL:
            compare = value.issubset
        case Operator.DAYS_BEFORE:
            return _days_before(field, value)
        case _:
            order = _ORDER[operator]

            def compare(fact: Any) -> bool:
                return order(fact, value)

    def judge(facts: Facts) -> bool:
        fact = read(facts.get(field))
        return fact is not None and compare(fact)

    return judge


_ORDER: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.GREATER: op.gt,
    Operator.LESS: op.lt,
    Operator.AT_LEAST: op.ge,
    Operator.AT_MOST: op.le,
}


def _starts(field: str, value: str) -> _Test:
    def judge(facts: Facts) -> bool:
        fact = facts.get(field)
        return isinstance(fact, str) and fact.startswith(value)

    return judge


def _days_before(field: str, value: Any) -> _Test:
    def judge(facts: Facts) -> bool:
        now = facts.now()
        fact = as_time(facts.get(field))
        return fact is not None and now - fact >= value

    return judge


def _text(leaf: Leaf, value: Any) -> _Test:
    field, fold_n = leaf.field, leaf.fold_n
    if leaf.operator in (Operator.CONTAINS, Operator.ANY_WORD) and leaf.plural:
        return _forms(field, (value,) if isinstance(value, str) else value, fold_n=fold_n)
    compare: Callable[[str], bool]
    match leaf.operator:
        case Operator.EQUALS:

            def compare(text: str) -> bool:
                return bool(text == value)

        case Operator.IN:
            compare = value.__contains__
        case Operator.STARTS_WITH:

            def compare(text: str) -> bool:
                return text.startswith(value)

        case Operator.MATCHES:

            def compare(text: str) -> bool:
                # RE2 works on UTF-8, which cannot say a lone surrogate.
                return value.search(text[:MATCHED_CHARACTERS].encode("utf-8", "replace").decode()) is not None

        case _:
            phrases = (value,) if isinstance(value, str) else value
            found = contains_words if leaf.whole_words else op.contains

            def compare(text: str) -> bool:
                return any(found(text, phrase) for phrase in phrases)

    def judge(facts: Facts) -> bool:
        text = facts.folded(field, fold_n=fold_n)
        return text is not None and compare(text)

    return judge


def _forms(field: str, phrases: tuple[str, ...], *, fold_n: bool) -> _Test:
    # A phrase that has no word in it ("¿?") has no forms: it is looked for as it is.
    literal = tuple(phrase for phrase in phrases if not words(phrase))
    wanted = tuple((tuple(words(phrase)), tuple(map(stems, words(phrase)))) for phrase in phrases if words(phrase))

    def judge(facts: Facts) -> bool:
        text = facts.folded(field, fold_n=fold_n)
        if text is None:
            return False
        if any(phrase in text for phrase in literal):
            return True
        given = facts.words(field, fold_n=fold_n)
        return any(
            all(_same(given[at + step], word, forms[step]) for step, word in enumerate(phrase))
            for phrase, forms in wanted
            for at in range(len(given) - len(phrase) + 1)
        )

    return judge


def _same(given: str, word: str, forms: tuple[str, str]) -> bool:
    if given == word:
        return True
    # Stems keep the first letter, and what is very long is no word: both save most of the stemming.
    if given[0] != word[0] or len(given) > 60:
        return False
    spanish, english = stems(given)
    return spanish == forms[0] or english == forms[1]
