"""With whom conversations were, and where they waited, at any past moment."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table stays (
            account_id uuid not null,
            conversation_id uuid not null,
            state text not null check (state in ('assigned', 'queued')),
            inbox_id uuid not null,
            channel text not null,
            team_id uuid,
            assignee_id uuid,
            queued_at timestamptz,
            rank smallint not null,
            level smallint not null,
            from_at timestamptz not null,
            to_at timestamptz not null check (to_at > from_at)
        )
    """)
    op.execute("comment on column stays.level is 'it took at most 2^level seconds'")
    op.execute("create index stays_queue on stays (account_id, level, from_at) where state = 'queued'")
    op.execute("create index stays_holder on stays (assignee_id, level, from_at) where state = 'assigned'")
    op.execute("alter table conversations_held add column since timestamptz")
    op.execute("comment on column conversations_held.since is 'when the stay that has not ended began'")
    op.execute("alter table pools add column stays_since timestamptz not null default now()")
    op.execute("comment on column pools.stays_since is 'before this, nothing is known of stays'")
    op.execute("alter table agents_then add column at timestamptz")
    op.execute("comment on column agents_then.at is 'of the input that made it so; null: nobody kept it yet'")
    with every_row(op, "conversations_held"):
        op.execute("update conversations_held set since = now() where state in ('assigned', 'queued')")
