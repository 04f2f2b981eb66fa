"""Policies of service levels, the courses of conversations, and their clocks."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table sla_policies (
            id uuid primary key,
            account_id uuid not null,
            name text not null,
            position integer not null,
            enabled boolean not null,
            conditions jsonb not null,
            terms jsonb not null,
            version bigint not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            updated_by text not null
        )
    """)
    op.execute("create index sla_policies_order on sla_policies (account_id, position, id)")
    op.execute("comment on column sla_policies.position is 'the first whose conditions hold applies'")
    op.execute("""
        create table sla_courses (
            conversation_id uuid primary key,
            account_id uuid not null,
            policy_id uuid,
            policy_version bigint,
            calendar_id text,
            calendar_version bigint,
            course jsonb not null,
            facts jsonb not null
        )
    """)
    op.execute("create index sla_courses_policy on sla_courses (account_id, policy_id, conversation_id)")
    op.execute("comment on column sla_courses.course is 'when its present cycle began, stood still and ended'")
    op.execute("comment on column sla_courses.facts is 'whose it is, as ids: for access, calendars and events'")
    op.execute("""
        create table sla_clocks (
            conversation_id uuid not null references sla_courses on delete cascade,
            measure text not null,
            account_id uuid not null,
            started_at timestamptz not null,
            target_seconds bigint not null,
            due_at timestamptz,
            warn_at timestamptz,
            done_at timestamptz,
            state text not null,
            warned_for timestamptz,
            breached_for timestamptz,
            primary key (conversation_id, measure)
        )
    """)
    op.execute("comment on column sla_clocks.warned_for is 'the due time of which the warning was told'")
    op.execute("comment on column sla_clocks.breached_for is 'the due time of which the breach was told'")
