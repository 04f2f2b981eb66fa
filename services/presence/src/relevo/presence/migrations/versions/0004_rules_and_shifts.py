"""Named statuses, automatic rules, shifts, and what they need to know of an agent."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table rules (
            account_id uuid primary key,
            rules jsonb not null,
            version integer not null,
            changed_at timestamptz not null default now()
        )
    """)
    op.execute("""
        create table named_statuses (
            id uuid primary key,
            account_id uuid not null,
            name text not null,
            state text not null check (state in ('available', 'busy', 'away', 'offline')),
            colour text not null,
            icon text not null,
            longest_minutes integer,
            version integer not null default 1,
            removed boolean not null default false
        )
    """)
    op.execute("comment on column named_statuses.removed is 'kept for the history that names it'")
    op.execute("create unique index named_statuses_name on named_statuses (account_id, lower(name)) where not removed")
    op.execute("""
        create table schedules (
            id uuid primary key,
            account_id uuid not null,
            name text not null,
            calendar jsonb not null,
            version integer not null default 1
        )
    """)
    op.execute("create unique index schedules_name on schedules (account_id, lower(name))")
    op.execute("""
        create table scheduled (
            account_id uuid not null,
            kind text not null check (kind in ('agent', 'team')),
            target_id uuid not null,
            schedule_id uuid not null references schedules (id) on delete cascade,
            primary key (account_id, kind, target_id)
        )
    """)
    op.execute("create index scheduled_schedule on scheduled (schedule_id)")
    op.execute(
        "comment on table scheduled is 'who works by which schedule; an agent''s own counts before their teams'''"
    )
    op.execute("""
        create table absences (
            id uuid primary key,
            account_id uuid not null,
            agent_id uuid not null,
            first_day date not null,
            last_day date not null check (last_day >= first_day),
            note text not null default ''
        )
    """)
    op.execute("create index absences_agent on absences (account_id, agent_id, last_day)")
    op.execute("""
        alter table agent_status
            add column label uuid,
            add column chosen_label uuid,
            add column chosen_at timestamptz,
            add column open integer not null default 0,
            add column capacity integer,
            add column crowded boolean not null default false,
            add column acted_at timestamptz,
            add column working_since timestamptz,
            add column received integer not null default 0,
            add column warned_at timestamptz,
            add column put_off boolean not null default false,
            add column resting boolean not null default false,
            add column shift_open boolean,
            add column shift_since timestamptz,
            add column shift_until timestamptz,
            add column in_shift boolean
    """)
    with every_row(op, "agent_status"):
        op.execute("update agent_status set chosen_at = since where chosen is not null")
    op.execute("alter table status_history add column label uuid, add column in_shift boolean")
