"""Web push: devices, and what waits for them."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table push_subscriptions (
            id uuid primary key,
            account_id uuid not null,
            agent_id uuid not null,
            endpoint text not null unique,
            point bytea not null,
            secret bytea not null,
            device text not null,
            created_at timestamptz not null
        )
    """)
    op.execute("create index push_subscriptions_of on push_subscriptions (account_id, agent_id)")
    op.execute("comment on column push_subscriptions.endpoint is 'whoever signs in on a device last has it'")
    op.execute("""
        create table pushes (
            id bigint generated always as identity primary key,
            account_id uuid not null,
            agent_id uuid not null,
            subscription_id uuid not null references push_subscriptions (id) on delete cascade,
            dedup_key text not null,
            payload text not null,
            topic text,
            conversation_id uuid,
            notification_id uuid,
            state text not null default 'waiting' check (state in ('waiting', 'sent', 'failed', 'dropped')),
            attempts integer not null default 0,
            next_at timestamptz,
            useless_after timestamptz,
            error text,
            created_at timestamptz not null,
            unique (subscription_id, dedup_key)
        )
    """)
    op.execute("create index pushes_waiting on pushes (next_at) where state = 'waiting'")
    op.execute("create index pushes_age on pushes (created_at)")
