"""Facts and roll-ups."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_FACTS = """
create table facts (
    fact_id uuid not null,
    account_id uuid not null,
    metric text not null,
    value numeric(18, 6) not null,
    business_value numeric(18, 6),
    at timestamptz not null,
    started_at timestamptz,
    conversation_id uuid,
    cause_event_id uuid not null,
    agent_id uuid,
    team_id uuid,
    inbox_id uuid,
    channel text,
    labels jsonb not null default '[]',
    priority text,
    language text,
    state text,
    rule_id uuid,
    primary key (fact_id, at)
) partition by range (at)
"""

_ROLLUP = """
create table rollup_{name} (
    account_id uuid not null,
    metric text not null,
    bucket timestamptz not null,
    agent_id uuid,
    team_id uuid,
    inbox_id uuid,
    channel text,
    state text,
    count bigint not null,
    sum numeric(24, 6) not null,
    unique nulls not distinct (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state)
)
"""


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute(_FACTS)
    op.execute("create index facts_report on facts (account_id, metric, at, fact_id)")
    op.execute("comment on table facts is 'one row a fact, as it was then; partitioned by month, made on first use'")
    op.execute("comment on column facts.value is '1 for counts, seconds for times'")
    op.execute("comment on column facts.business_value is 'seconds of business time; null: not measured'")
    for name in ("minute", "hour", "day"):
        op.execute(_ROLLUP.format(name=name))
        op.execute(f"comment on column rollup_{name}.bucket is 'start of the {name}, UTC'")
