"""Which rules can match an event at all: a thousand keyword rules must not be judged one by one.

Of each condition a set of keys is taken such that it can hold only when the event has one of them: a word of a text,
an element of a list, the value of a field. The index leaves out rules; it never decides that one fires.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

from relevo.kernel.conditions import AllOf, AnyOf, Condition, Facts, FieldType, Leaf, Node, NotOf, Operator
from relevo.kernel.conditions.operands import operand
from relevo.kernel.text import words

T = TypeVar("T")


class Kind(IntEnum):
    """What a key is, the most telling first."""

    WORD = 1
    WORD_FOLDED_N = 2
    ELEMENT = 3
    VALUE = 4


class Key(NamedTuple):
    """One thing that an event has or has not."""

    kind: Kind
    field: str
    value: str


Keys = frozenset[Key]


def keys_of(condition: Condition) -> Keys | None:
    """Keys of which an event must have at least one for the condition to hold; None when there is no such set."""
    return _node(condition.node, condition.types)


def best(choices: Iterable[Keys | None]) -> Keys | None:
    """The set of those that leaves out most: all of them are necessary, so any one will do."""
    found = [keys for keys in choices if keys is not None]
    return min(found, key=lambda keys: (max((key.kind for key in keys), default=0), len(keys)), default=None)


def _node(node: Node, types: Mapping[str, FieldType]) -> Keys | None:
    match node:
        case AllOf():
            return best(_node(child, types) for child in node.all)
        case AnyOf():
            return _union(_node(child, types) for child in node.any)
        case NotOf():
            return None
        case Leaf():
            return _leaf(node, types[node.field])


def _union(choices: Iterable[Keys | None]) -> Keys | None:
    found: set[Key] = set()
    for keys in choices:
        if keys is None:
            return None
        found |= keys
    return frozenset(found)


_PHRASES: Final = frozenset({Operator.EQUALS, Operator.IN, Operator.CONTAINS, Operator.ANY_WORD})
_VALUES: Final = frozenset({Operator.EQUALS, Operator.IN})


def _leaf(leaf: Leaf, kind: FieldType) -> Keys | None:
    if kind is FieldType.TEXT and leaf.operator in _PHRASES and leaf.whole_words and not leaf.plural:
        return _union(_phrase(leaf, phrase) for phrase in _several(leaf, kind))
    if kind is FieldType.KEYWORD and leaf.operator in _VALUES:
        return frozenset(Key(Kind.VALUE, leaf.field, value) for value in _several(leaf, kind))
    if kind is FieldType.LIST and leaf.operator is Operator.CONTAINS_ANY:
        return frozenset(Key(Kind.ELEMENT, leaf.field, value) for value in _several(leaf, kind))
    if kind is FieldType.LIST and leaf.operator is Operator.CONTAINS_ALL:
        return frozenset({Key(Kind.ELEMENT, leaf.field, min(_several(leaf, kind)))})
    return None


def _several(leaf: Leaf, kind: FieldType) -> Iterable[str]:
    value = operand(kind.value, leaf.operator.value, leaf.value, fold_n=leaf.fold_n)
    return (value,) if isinstance(value, str) else value


def _phrase(leaf: Leaf, phrase: str) -> Keys | None:
    # Every word of a phrase that a text contains is a word of that text; a phrase of signs alone has none.
    found = words(phrase)
    if not found:
        return None
    kind = Kind.WORD_FOLDED_N if leaf.fold_n else Kind.WORD
    return frozenset({Key(kind, leaf.field, max(found, key=len))})


class Index(Generic[T]):
    """Things in an order, found by the facts of an event."""

    def __init__(self, items: Iterable[tuple[T, Keys | None]]) -> None:
        self._always: list[tuple[int, T]] = []
        self._by_key: dict[Key, list[tuple[int, T]]] = defaultdict(list)
        for place, (item, keys) in enumerate(items):
            if keys is None:
                self._always.append((place, item))
            for key in keys or ():
                self._by_key[key].append((place, item))
        self._asked = sorted({(key.kind, key.field) for key in self._by_key})

    def candidates(self, facts: Facts) -> list[T]:
        """The items that can match, in their order: those with a key that the facts have, and those without keys."""
        found = dict(self._always)
        for kind, field in self._asked:
            for value in _given(facts, kind, field):
                found.update(self._by_key.get(Key(kind, field, value), ()))
        return [found[place] for place in sorted(found)]


def _given(facts: Facts, kind: Kind, field: str) -> Iterable[str]:
    match kind:
        case Kind.WORD | Kind.WORD_FOLDED_N:
            # All words: those that Facts keeps for plural forms are only the first ones.
            return set(words(facts.folded(field, fold_n=kind is Kind.WORD_FOLDED_N) or ""))
        case Kind.ELEMENT:
            return set(facts.get(field) or ())
        case Kind.VALUE:
            value = facts.get(field)
            return (value,) if isinstance(value, str) else ()
