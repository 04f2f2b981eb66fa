"""The condition tree of rules, routing policies and segments: parsed once, judged in memory, explained, or put to SQL.

    {"all": [{"field": "message.text", "operator": "contains", "value": "error"},
             {"not": {"field": "labels", "operator": "contains_any", "value": ["spam"]}}]}

What a leaf means is the same in memory and in SQL; a property test holds them equal. Meaning of the edges:

- A fact that is missing, None, or not of its field's type satisfies no operator but the negative ones (`not_equals`,
  `not_contains`, `contains_none`, `absent`). Every leaf is true or false, never unknown.
- `text` is compared folded (`kernel.text.fold`): without case, acute accents and diaereses; ñ is a letter unless the
  leaf says `fold_n`. `keyword` (ids, codes, labels, e-mail addresses in normal form) is compared exactly.
- `contains`, `not_contains` and `any_word` look for whole words; `whole_words: false` looks anywhere; `plural: true`
  also takes other forms of a word that share its Spanish or English stem.
- `matches` is an RE2 search in the folded text (its first 20,000 characters), regardless of case.
- `days_before` N on a time: it lies at least N times 24 hours before the fact `now` (in SQL: the argument `now`), which
  is the time of the event judged and never the clock.
- `all` of nothing is true; `any` of nothing is refused.
"""

from relevo.kernel.conditions.judge import Explanation, Facts, LeafOutcome, Predicate, compile_condition, explain
from relevo.kernel.conditions.model import (
    AllOf,
    AnyOf,
    Condition,
    ConditionError,
    FieldType,
    Leaf,
    Node,
    NotOf,
    Operator,
    parse,
)
from relevo.kernel.conditions.problems import Problem
from relevo.kernel.conditions.sql import NotExpressible, to_sql

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "ConditionError",
    "Explanation",
    "Facts",
    "FieldType",
    "Leaf",
    "LeafOutcome",
    "Node",
    "NotExpressible",
    "NotOf",
    "Operator",
    "Predicate",
    "Problem",
    "compile_condition",
    "explain",
    "parse",
    "to_sql",
]
