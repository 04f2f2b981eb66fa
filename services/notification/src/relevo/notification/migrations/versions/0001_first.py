"""Notifications, preferences, and e-mail to be sent."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table notifications (
            id uuid primary key,
            account_id uuid not null,
            agent_id uuid not null,
            kind text not null,
            dedup_key text not null,
            conversation_id uuid,
            title text not null,
            body text not null,
            created_at timestamptz not null,
            read_at timestamptz,
            unique (account_id, dedup_key)
        )
    """)
    op.execute("create index notifications_list on notifications (agent_id, (read_at is not null), id desc)")
    op.execute("comment on column notifications.id is 'UUIDv7: its order is that of creation'")
    op.execute("""
        create table preferences (
            account_id uuid not null,
            agent_id uuid not null,
            kind text not null,
            in_app boolean not null,
            email boolean not null,
            primary key (agent_id, kind)
        )
    """)
    op.execute("""
        create table mails (
            id uuid primary key,
            account_id uuid not null,
            dedup_key text not null,
            recipient text not null,
            subject text not null,
            body_text text not null,
            body_html text not null,
            state text not null check (state in ('waiting', 'sent', 'failed', 'dropped')),
            attempts integer not null default 0,
            next_at timestamptz,
            useless_after timestamptz,
            error text,
            created_at timestamptz not null,
            sent_at timestamptz,
            unique (account_id, dedup_key)
        )
    """)
    op.execute("create index mails_waiting on mails (next_at) where state = 'waiting'")
    op.execute("comment on column mails.next_at is 'when it is tried (again); a claim moves it past the attempt'")
    op.execute("comment on column mails.error is 'why it failed, waits or was dropped'")
