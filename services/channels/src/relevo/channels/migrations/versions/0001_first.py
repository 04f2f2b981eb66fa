"""Webhook deliveries and their secrets, webchat messages, reports on their way to ingest."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table webhook_secrets (
            inbox_id uuid primary key,
            account_id uuid not null,
            sealed bytea not null,
            previous bytea,
            rotated_at timestamptz not null
        )
    """)
    op.execute("comment on column webhook_secrets.previous is 'sealed too; signs beside the new one for a day'")
    op.execute("""
        create table deliveries (
            message_id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            conversation_id uuid not null,
            body text not null,
            state text not null default 'waiting' check (state in ('waiting', 'sent', 'failed')),
            attempts integer not null default 0,
            next_at timestamptz,
            error text,
            created_at timestamptz not null default now(),
            done_at timestamptz
        )
    """)
    op.execute("comment on column deliveries.message_id is 'UUIDv7: the order within a conversation'")
    op.execute("comment on column deliveries.next_at is 'when it is tried (again); a claim moves it past the attempt'")
    op.execute("create index deliveries_waiting on deliveries (next_at) where state = 'waiting'")
    op.execute("create index deliveries_order on deliveries (conversation_id, message_id) where state = 'waiting'")
    op.execute("""
        create table reports (
            id bigint generated always as identity primary key,
            event_id uuid not null,
            account_id uuid not null,
            inbox_id uuid not null,
            sender text not null,
            body text not null
        )
    """)
    op.execute(
        "comment on table reports is 'delivery reports for ingest; written with what they tell of, removed once published'"
    )
    op.execute("""
        create table webchat_messages (
            position bigint generated always as identity primary key,
            id uuid not null unique,
            account_id uuid not null,
            inbox_id uuid not null,
            visitor_id uuid not null,
            client_id text,
            author text not null check (author in ('visitor', 'team')),
            author_name text not null default '',
            body text not null,
            attachments jsonb not null default '[]',
            status text not null,
            at timestamptz not null,
            unique (inbox_id, visitor_id, client_id)
        )
    """)
    op.execute("create index webchat_messages_visitor on webchat_messages (inbox_id, visitor_id, position)")
    op.execute("comment on column webchat_messages.client_id is 'the widget''s own id of a visitor''s message'")
