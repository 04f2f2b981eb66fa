"""Rules and what they did."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table rule_sets (
            account_id uuid primary key,
            version bigint not null
        )
    """)
    op.execute("comment on column rule_sets.version is 'grows with every change of the account''s rules'")
    op.execute("""
        create table rules (
            id uuid primary key,
            account_id uuid not null,
            name text not null,
            trigger text not null,
            conditions jsonb not null,
            actions jsonb not null,
            inbox_ids jsonb not null default '[]',
            on_automated boolean not null default false,
            enabled boolean not null,
            position integer not null,
            version integer not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            updated_by text not null
        )
    """)
    op.execute("create index rules_order on rules (account_id, position, id)")
    op.execute("comment on column rules.inbox_ids is 'empty: every inbox'")
    op.execute("comment on column rules.on_automated is 'also heeds messages that no person wrote'")
    op.execute("""
        create table executions (
            id uuid primary key,
            account_id uuid not null,
            rule_id uuid not null,
            rule_version integer not null,
            rule_name text not null,
            event_id uuid not null,
            event_type text not null,
            conversation_id uuid not null,
            outcome text not null,
            actions jsonb not null,
            created_at timestamptz not null,
            unique (rule_id, rule_version, event_id)
        )
    """)
    op.execute("create index executions_recent on executions (account_id, created_at desc, id desc)")
    op.execute("create index executions_conversation on executions (account_id, conversation_id, created_at desc)")
    op.execute("create index executions_rule on executions (account_id, rule_id, created_at desc)")
    op.execute("comment on column executions.rule_name is 'as it was then; the rule may be gone'")
    op.execute("comment on column executions.outcome is 'ordered, or depth_limit: matched but held back'")
