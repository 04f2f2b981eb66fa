"""Why a rule did or did not fire on an event: every node of its conditions judged, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from relevo.automation.domain.rules import OutOfScope, Rule, out_of_scope
from relevo.automation.domain.triggers import Occurrence
from relevo.kernel.conditions import AllOf, AnyOf, Condition, Facts, Leaf, Node, NotOf, Operator, compile_condition

Why = Literal["fired", "conditions", "depth_limit"] | OutOfScope
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Judged:
    """One node of a condition tree, with what it comes to. ``path`` is a JSON pointer; ``actual`` is the fact of a leaf."""

    path: str
    kind: Literal["all", "any", "not", "leaf"]
    outcome: bool
    es: str
    en: str
    children: tuple["Judged", ...] = ()
    field: str | None = None
    actual: Any = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule fires on an event, and why; ``tree`` where its conditions were asked at all."""

    why: Why
    es: str
    en: str
    tree: Judged | None = None


def verdict(rule: Rule, event: Occurrence, *, depth_limit: int) -> Verdict:
    """What `evaluate` says of this rule and event, told."""
    scope = out_of_scope(rule, event)
    tree = None if scope == "other_trigger" else judged(rule.condition, event.facts)
    if scope is not None:
        return Verdict(scope, *_WORDS[scope], tree)
    assert tree
    if not tree.outcome:
        return Verdict("conditions", *_WORDS["conditions"], tree)
    why: Why = "depth_limit" if event.depth >= depth_limit else "fired"
    return Verdict(why, *_WORDS[why], tree)


_WORDS: Final[Mapping[Why, tuple[str, str]]] = MappingProxyType(
    {
        "fired": ("La regla se aplica.", "The rule fires."),
        "conditions": ("No se aplica: sus condiciones no se cumplen.", "It does not fire: its conditions do not hold."),
        "depth_limit": (
            "Se cumple, pero se detiene: demasiadas reglas se han activado unas a otras.",
            "It matches, but is held back: too many rules have set each other off.",
        ),
        "other_trigger": ("Este suceso no es su disparador.", "This event is not its trigger."),
        "other_inbox": (
            "No se aplica: la conversación es de otra bandeja de entrada.",
            "It does not fire: the conversation is of another inbox.",
        ),
        "automated": (
            "No se aplica: el mensaje no lo escribió ninguna persona.",
            "It does not fire: no person wrote the message.",
        ),
        "own_effect": (
            "No se aplica: lo ha causado esta misma regla.",
            "It does not fire: this very rule caused it.",
        ),
    }
)


def judged(condition: Condition, facts: Facts) -> Judged:
    """Every node judged, also those that a judgement would skip."""
    return _node(condition, condition.node, facts, "")


def _node(condition: Condition, node: Node, facts: Facts, path: str) -> Judged:
    holds = compile_condition(Condition(node, condition.types))(facts)
    match node:
        case AllOf():
            children = tuple(_node(condition, one, facts, f"{path}/all/{at}") for at, one in enumerate(node.all))
            missing = sum(not one.outcome for one in children)
            es = "Se cumplen todas." if holds else f"De {len(children)} no se cumplen {missing}."
            en = "All of them hold." if holds else f"{missing} of {len(children)} do not hold."
            return Judged(path, "all", holds, es, en, children)
        case AnyOf():
            children = tuple(_node(condition, one, facts, f"{path}/any/{at}") for at, one in enumerate(node.any))
            es = "Se cumple al menos una." if holds else "No se cumple ninguna."
            en = "At least one of them holds." if holds else "None of them holds."
            return Judged(path, "any", holds, es, en, children)
        case NotOf():
            child = _node(condition, node.negated, facts, f"{path}/not")
            es = "Se cumple, porque lo negado no." if holds else "No se cumple, porque lo negado sí."
            en = (
                "It holds, since what is negated does not."
                if holds
                else "It does not hold, since what is negated does."
            )
            return Judged(path, "not", holds, es, en, (child,))
        case Leaf():
            actual = facts.get(node.field)
            es, en = _leaf(node, actual, holds=holds)
            return Judged(path, "leaf", holds, es, en, field=node.field, actual=actual)


_OPERATORS: Final[Mapping[Operator, tuple[str, str]]] = MappingProxyType(
    {
        Operator.EQUALS: ("es", "is"),
        Operator.NOT_EQUALS: ("no es", "is not"),
        Operator.CONTAINS: ("contiene", "contains"),
        Operator.NOT_CONTAINS: ("no contiene", "does not contain"),
        Operator.ANY_WORD: ("contiene alguna de las palabras", "contains any of the words"),
        Operator.MATCHES: ("cumple la expresión", "matches"),
        Operator.STARTS_WITH: ("empieza por", "starts with"),
        Operator.PRESENT: ("tiene valor", "has a value"),
        Operator.ABSENT: ("no tiene valor", "has no value"),
        Operator.GREATER: ("es mayor que", "is greater than"),
        Operator.LESS: ("es menor que", "is less than"),
        Operator.AT_LEAST: ("es al menos", "is at least"),
        Operator.AT_MOST: ("es como mucho", "is at most"),
        Operator.IN: ("es uno de", "is one of"),
        Operator.CONTAINS_ANY: ("tiene alguno de", "has any of"),
        Operator.CONTAINS_ALL: ("tiene todos los de", "has all of"),
        Operator.CONTAINS_NONE: ("no tiene ninguno de", "has none of"),
        Operator.DAYS_BEFORE: ("fue hace al menos tantos días:", "was at least so many days ago:"),
    }
)


def _leaf(leaf: Leaf, actual: Any, *, holds: bool) -> tuple[str, str]:
    sides = []
    for at, (yes, no, was, nothing) in enumerate((("sí", "no", "era", "nada"), ("yes", "no", "it was", "nothing"))):
        wanted = "" if leaf.value is None else f" {_shown(leaf.value, nothing)}"
        told = f"{leaf.field} {_OPERATORS[leaf.operator][at]}{wanted}: {yes if holds else no}"
        sides.append(f"{told}; {was} {_shown(actual, nothing)}.")
    return sides[0], sides[1]


def _shown(value: Any, nothing: str) -> str:
    if value is None or value in ("", ()):
        return nothing
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_shown(one, nothing) for one in value)[:_LONGEST]
    if not isinstance(value, str):
        return str(value)
    return f"«{value}»" if len(value) <= _LONGEST else f"«{value[:_LONGEST]}…»"
