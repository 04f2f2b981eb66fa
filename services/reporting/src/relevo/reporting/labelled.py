"""What counts for a label: what happened while a conversation had it, or before in the cycle in which it was put on.

A `labels_added` fact says when a label was put on (`at`) and when that cycle had begun (`started_at`). Reports with a
label read facts, as roll-ups cannot know; docs/adr/0027.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Text,
    and_,
    column,
    exists,
    literal,
    literal_column,
    or_,
    select,
    text,
)

from relevo.contracts.metrics import UNLABELLED
from relevo.reporting.tables import facts

_f = facts.c
# Literals, not parameters: only so can the planner prove that the partial index serves.
_PUT_ON: Final[ColumnElement[str]] = literal_column("'labels_added'")


def labelled(account_id: str, since: datetime, keys: Sequence[str]) -> ColumnElement[bool]:
    """The facts that count for a label, which has these keys."""
    wanted = literal(list(keys), ARRAY(Text))
    given = facts.alias("given")
    g = given.c
    put_on: list[ColumnElement[bool]] = [
        g.account_id == account_id,
        g.metric == _PUT_ON,
        g.labels.op("?|", is_comparison=True)(wanted),
        g.at >= since,
    ]
    # The first narrows to a few conversations by one hash; the second says which of their facts.
    some = _f.conversation_id.in_(select(g.conversation_id).where(*put_on))
    same_cycle = exists(
        select(literal(1)).where(*put_on, g.conversation_id == _f.conversation_id, g.at > _f.at, g.started_at <= _f.at)
    )
    had = _f.labels.op("?|", is_comparison=True)(wanted)
    return and_(_f.metric.not_in(sorted(UNLABELLED)), or_(had, and_(_f.metric != _PUT_ON, some, same_cycle)))


def labels_of_facts(became: dict[str, str]) -> FromClause:
    """For each row of `facts`, the labels that it counts for, each once; ``became``: what merged ones are now."""
    found = text(
        """
        select coalesce(m.became, l.label) as label from (
            select jsonb_array_elements_text(facts.labels) as label
            union
            select given.labels ->> 0 from facts given
            where given.account_id = facts.account_id and given.metric = 'labels_added'
                and given.conversation_id = facts.conversation_id and given.at > facts.at
                and given.started_at <= facts.at and facts.metric <> 'labels_added'
        ) as l
        left join unnest(cast(:merged as text[]), cast(:became as text[])) as m(merged, became) on m.merged = l.label
        group by 1
        """
    ).bindparams(merged=list(became), became=list(became.values()))
    lateral: Any = found.columns(column("label", Text)).lateral("counted_for")
    return lateral  # type: ignore[no-any-return]
