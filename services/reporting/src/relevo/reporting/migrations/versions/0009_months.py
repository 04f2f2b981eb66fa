"""Totals by the month, and an index over a quarter of the facts, from which percentiles of very many are told."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MONTHS = """
insert into rollup_month (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state, count, sum,
                          business_count, business_sum)
select account_id, metric, date_trunc('month', bucket, 'UTC'), agent_id, team_id, inbox_id, channel, state,
       sum(count), sum(sum), sum(business_count), sum(business_sum)
from rollup_day group by 1, 2, 3, 4, 5, 6, 7, 8
"""


def upgrade() -> None:
    op.execute("create table rollup_month (like rollup_day including all)")
    op.execute("comment on column rollup_month.bucket is 'start of the month, UTC'")
    with every_row(op, "rollup_day"):
        op.execute(_MONTHS)
    # The last byte of a fact's id is of a digest: whatever a fact is, one in 256 has each.
    op.execute(
        "create index facts_sampled on facts (account_id, metric, at)"
        " include (value, business_value, agent_id, team_id, inbox_id, channel, replaced, fact_id)"
        " where get_byte(uuid_send(fact_id), 15) < 64"
    )
