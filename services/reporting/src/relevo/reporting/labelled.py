"""What counts for a label: what happened while a conversation had it, or before in the cycle in which it was put on.

A `labels_added` fact says when a label was put on (`at`) and when that cycle had begun (`started_at`). Reports with a
label read facts, as roll-ups cannot know; docs/adr/0027.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Text,
    and_,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from relevo.contracts.metrics import UNLABELLED
from relevo.reporting.tables import facts

_f = facts.c
_TOLD: Final = ("fact_id", "metric", "state", "value", "business_value")
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


def labels_of_facts(
    conditions: Sequence[ColumnElement[bool]], since: datetime, became: dict[str, str], also: Sequence[str] = ()
) -> FromClause:
    """Each of the facts that these conditions pick once for each label that it counts for, as `label`; ``became``: what merged ones are now.

    ``also``: further columns of the facts. What is not told by label is left out.

    ``since``: no fact is older. What was put on is joined as a whole, as a look for each fact would take a second for
    every forty thousand of them.
    """
    columns = (*_TOLD, "account_id", "conversation_id", "at", "labels", *also)
    told = (*conditions, _f.metric.not_in(sorted(UNLABELLED)))
    some = select(*(_f[name] for name in columns)).where(*told).cte("picked")
    merged, into = literal(list(became), ARRAY(Text)), literal(list(became.values()), ARRAY(Text))
    now = func.unnest(merged, into).table_valued(column("merged", Text), column("became", Text)).render_derived("now")
    own = func.jsonb_array_elements_text(some.c.labels).table_valued(column("key", Text)).render_derived("own")
    given = facts.alias("given").c
    put_on = given.labels[0].astext
    had = select(own.c.key.label("key"), *some.c).select_from(some.join(own, true()))
    got = select(put_on.label("key"), *some.c).where(
        given.account_id == some.c.account_id,
        given.metric == _PUT_ON,
        given.conversation_id == some.c.conversation_id,
        given.at >= since,
        given.at > some.c.at,
        given.started_at <= some.c.at,
        some.c.metric != _PUT_ON,
    )
    each = union_all(had, got).subquery("each")
    label = func.coalesce(now.c.became, each.c.key)
    # What was put on twice in a cycle, or by two names of one label, counts once.
    return (
        select(label.label("label"), *(each.c[name] for name in (*_TOLD, *also)))
        .select_from(each.outerjoin(now, now.c.merged == each.c.key))
        .distinct()
        .subquery("counted_for")
    )
