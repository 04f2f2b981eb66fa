"""The tree itself, its JSON shape, and the checks that make a tree fit for use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from relevo.kernel.conditions.operands import BadValue, operand
from relevo.kernel.conditions.problems import Problem

MAX_DEPTH: Final = 10
MAX_LEAVES: Final = 200


class FieldType(StrEnum):
    TEXT = "text"
    KEYWORD = "keyword"
    NUMBER = "number"
    DATETIME = "datetime"
    LIST = "list"  # of keywords
    BOOLEAN = "boolean"
    ATTRIBUTE = "attribute"  # a custom attribute whose type is not known here: compared as what the leaf asks


class Operator(StrEnum):
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    ANY_WORD = "any_word"
    MATCHES = "matches"
    STARTS_WITH = "starts_with"
    PRESENT = "present"
    ABSENT = "absent"
    GREATER = "greater"
    LESS = "less"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    IN = "in"
    CONTAINS_ANY = "contains_any"
    CONTAINS_ALL = "contains_all"
    CONTAINS_NONE = "contains_none"
    DAYS_BEFORE = "days_before"


_O = Operator
_EVERY: Final = frozenset({_O.PRESENT, _O.ABSENT})
_EQUALITY: Final = _EVERY | {_O.EQUALS, _O.NOT_EQUALS}
_ORDER: Final = frozenset({_O.GREATER, _O.LESS, _O.AT_LEAST, _O.AT_MOST})
_WORDS: Final = frozenset({_O.CONTAINS, _O.NOT_CONTAINS, _O.ANY_WORD})

OPERATORS: Final[Mapping[FieldType, frozenset[Operator]]] = MappingProxyType(
    {
        FieldType.TEXT: _EQUALITY | _WORDS | {_O.MATCHES, _O.STARTS_WITH, _O.IN},
        FieldType.KEYWORD: _EQUALITY | {_O.STARTS_WITH, _O.IN},
        FieldType.NUMBER: _EQUALITY | _ORDER | {_O.IN},
        FieldType.DATETIME: _EVERY | _ORDER | {_O.DAYS_BEFORE},
        FieldType.LIST: _EQUALITY | {_O.CONTAINS_ANY, _O.CONTAINS_ALL, _O.CONTAINS_NONE},
        FieldType.BOOLEAN: _EQUALITY,
        FieldType.ATTRIBUTE: _EQUALITY | _WORDS | _ORDER | {_O.MATCHES, _O.STARTS_WITH, _O.IN, _O.DAYS_BEFORE},
    }
)


def asked_as(kind: FieldType, operator: Operator, value: Any) -> FieldType:
    """As what a fact of this type is compared by such a leaf: a custom attribute as what it is compared with."""
    if kind is not FieldType.ATTRIBUTE:
        return kind
    if operator is Operator.DAYS_BEFORE:
        return FieldType.DATETIME
    first = value[0] if isinstance(value, list | tuple) and value else value
    if isinstance(first, bool):
        return FieldType.BOOLEAN
    if isinstance(first, int | float):
        return FieldType.NUMBER
    return FieldType.DATETIME if operator in _ORDER else FieldType.TEXT


# An operator that is the negation of another: the missing fact falls on its true side.
NEGATIONS: Final[Mapping[Operator, Operator]] = MappingProxyType(
    {
        _O.NOT_EQUALS: _O.EQUALS,
        _O.NOT_CONTAINS: _O.CONTAINS,
        _O.CONTAINS_NONE: _O.CONTAINS_ANY,
        _O.ABSENT: _O.PRESENT,
    }
)


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Leaf(_Shape):
    field: Annotated[str, Field(min_length=1, max_length=200)]
    operator: Annotated[Operator, Field(strict=False)]
    value: Any = None
    fold_n: bool = False
    plural: bool = False
    whole_words: bool = True


class AllOf(_Shape):
    all: Annotated[tuple["Node", ...], Field(strict=False)]


class AnyOf(_Shape):
    any: Annotated[tuple["Node", ...], Field(strict=False, min_length=1)]


class NotOf(_Shape):
    negated: Annotated["Node", Field(alias="not")]


_Kind = Literal["all", "any", "not", "leaf"]


def _kind(raw: object) -> _Kind | None:
    match raw:
        case AllOf():
            return "all"
        case AnyOf():
            return "any"
        case NotOf():
            return "not"
        case Leaf():
            return "leaf"
        case Mapping():
            groups: tuple[_Kind, ...] = ("all", "any", "not")
            found = [kind for kind in groups if kind in raw]
            if "field" in raw or "operator" in raw:
                found.append("leaf")
            return found[0] if len(found) == 1 else None
        case _:
            return None


Node = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[NotOf, Tag("not")]
    | Annotated[Leaf, Tag("leaf")],
    Discriminator(_kind),
]

for _model in (AllOf, AnyOf, NotOf):
    _model.model_rebuild()
_NODE: Final[TypeAdapter[Node]] = TypeAdapter(Node)


class ConditionError(ValueError):
    """A tree was refused. `problems` has every fault found, each with path, code, reason and mend."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked tree: every field is known, every operator suits its type, every value is usable."""

    node: Node
    types: Mapping[str, FieldType]

    def to_json(self) -> dict[str, Any]:
        """The JSON form; parsing it gives an equal condition."""
        dumped: dict[str, Any] = _NODE.dump_python(self.node, mode="json", by_alias=True, exclude_defaults=True)
        return dumped


def parse(raw: object, schema: Mapping[str, FieldType]) -> Condition:
    """Check a tree (parsed JSON) against the fields that there are. Raises ConditionError, never anything else."""
    _check_size(raw)
    try:
        node = _NODE.validate_python(raw)
    except ValidationError as error:
        raise ConditionError(_shape_problems(error)) from None
    found = list(leaves(node))
    if len(found) > MAX_LEAVES:
        raise ConditionError((Problem("", "too_many", {"limit": MAX_LEAVES}),))
    problems = tuple(problem for path, leaf in found for problem in _leaf_problems(path, leaf, schema))
    if problems:
        raise ConditionError(problems)
    return Condition(node, MappingProxyType({leaf.field: FieldType(schema[leaf.field]) for _, leaf in found}))


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every leaf with its path (a JSON pointer), in the order of the tree."""
    match node:
        case AllOf():
            for index, child in enumerate(node.all):
                yield from leaves(child, f"{path}/all/{index}")
        case AnyOf():
            for index, child in enumerate(node.any):
                yield from leaves(child, f"{path}/any/{index}")
        case NotOf():
            yield from leaves(node.negated, f"{path}/not")
        case Leaf():
            yield path, node


def _check_size(raw: object) -> None:
    # Before validation and without recursion: a hostile depth must not reach anything recursive.
    count = 0
    waiting: list[tuple[object, int, str]] = [(raw, 1, "")]
    while waiting:
        node, depth, path = waiting.pop()
        if depth > MAX_DEPTH:
            raise ConditionError((Problem(path[:100], "too_deep", {"limit": MAX_DEPTH}),))
        count += 1
        if count > 2 * MAX_LEAVES:
            raise ConditionError((Problem("", "too_many", {"limit": MAX_LEAVES}),))
        if isinstance(node, Mapping):
            for key in ("all", "any"):
                children = node.get(key)
                if isinstance(children, list | tuple):
                    if len(children) > MAX_LEAVES:
                        raise ConditionError((Problem(path, "too_many", {"limit": MAX_LEAVES}),))
                    waiting += [(child, depth + 1, f"{path}/{key}/{at}") for at, child in enumerate(children)]
            if "not" in node:
                waiting.append((node["not"], depth + 1, f"{path}/not"))


def _shape_problems(error: ValidationError) -> tuple[Problem, ...]:
    found = [_shape_problem(item) for item in error.errors(include_url=False)]
    # A group whose elements are all faulty counts as empty too, which would be news to whoever filled it.
    return tuple(
        problem
        for problem in found
        if problem.code != "empty" or not any(other.path.startswith(f"{problem.path}/") for other in found)
    )


def _shape_problem(error: Mapping[str, Any]) -> Problem:
    # A location goes: tag of the union, key, index, tag, key, …; the tags are no steps into the document.
    path = ""
    tag_next = True
    for step in error["loc"]:
        if tag_next:
            tag_next = False
        else:
            path += f"/{step}"
            tag_next = isinstance(step, int) or step == "not"
    match error["type"]:
        case "union_tag_not_found" | "union_tag_invalid":
            return Problem(path, "not_a_condition", {})
        case "missing":
            return Problem(path, "missing", {})
        case "extra_forbidden":
            return Problem(path, "unknown_key", {})
        case "enum":
            return Problem(path, "unknown_operator", {"known": ", ".join(Operator)})
        case "too_short" | "string_too_short":
            return Problem(path, "empty", {})
        case "bool_type":
            return Problem(path, "not_a_switch", {})
        case _:
            return Problem(path, "wrong_shape", {})


def _leaf_problems(path: str, leaf: Leaf, schema: Mapping[str, FieldType]) -> Iterator[Problem]:
    declared = schema.get(leaf.field)
    if declared is None:
        yield Problem(f"{path}/field", "unknown_field", {"field": leaf.field})
        return
    declared = FieldType(declared)
    kind = asked_as(declared, leaf.operator, leaf.value)
    allowed = OPERATORS[declared] & OPERATORS[kind]
    if leaf.operator not in allowed:
        known = ", ".join(operator for operator in Operator if operator in allowed)
        yield Problem(
            f"{path}/operator",
            "operator_unfit",
            {"operator": leaf.operator.value, "field": leaf.field, "type": kind.value, "known": known},
        )
        return
    fits = {
        "fold_n": kind is FieldType.TEXT and leaf.operator not in _EVERY,
        "plural": leaf.operator in _WORDS and leaf.whole_words,
        "whole_words": leaf.operator in _WORDS,
    }
    for option, fit in fits.items():
        if not fit and getattr(leaf, option) != Leaf.model_fields[option].default:
            yield Problem(f"{path}/{option}", "option_unfit", {"option": option, "operator": leaf.operator.value})
    try:
        operand(kind.value, leaf.operator.value, leaf.value, fold_n=leaf.fold_n)
    except BadValue as bad:
        yield Problem(f"{path}/value{bad.path}", bad.code, bad.details)
