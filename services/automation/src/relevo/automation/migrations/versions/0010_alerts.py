"""Alerts about statuses: who wants to be told of what, the statuses as presence told them, and what was told."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table alerts (
            id uuid primary key,
            account_id uuid not null,
            subscriber_id uuid not null,
            kind text not null check (kind in ('status', 'outside_shift', 'nobody_available')),
            agent_id uuid,
            team_id uuid,
            states text[] not null,
            minutes integer not null,
            quiet_minutes integer not null,
            enabled boolean not null,
            version bigint not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            check (num_nonnulls(agent_id, team_id) = 1)
        )
    """)
    op.execute("create index alerts_account on alerts (account_id, subscriber_id, id)")
    op.execute("comment on column alerts.minutes is 'how long it must have been so'")
    op.execute("comment on column alerts.quiet_minutes is 'how long it is not told again of the same agent or team'")
    op.execute("""
        create table alert_statuses (
            agent_id uuid primary key,
            account_id uuid not null,
            state text not null,
            since timestamptz not null,
            not_available_since timestamptz,
            in_shift boolean,
            sequence bigint not null
        )
    """)
    op.execute("create index alert_statuses_account on alert_statuses (account_id)")
    op.execute("comment on table alert_statuses is 'projection of presence: the status of each agent'")
    op.execute("""
        create table alert_tellings (
            alert_id uuid not null references alerts on delete cascade,
            subject_id uuid not null,
            account_id uuid not null,
            since timestamptz not null,
            told_at timestamptz not null,
            primary key (alert_id, subject_id)
        )
    """)
    op.execute(
        "comment on table alert_tellings is 'of each agent or team the last telling: since when it was so, and when it was told'"
    )
