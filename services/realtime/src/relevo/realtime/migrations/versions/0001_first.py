"""Tickets, and who may see which conversation."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table socket_tickets (
            sha256 bytea primary key,
            account_id uuid not null,
            agent_id uuid not null,
            session_id text not null,
            expires_at timestamptz not null
        )
    """)
    op.execute("create index socket_tickets_expiry on socket_tickets (expires_at)")
    op.execute("""
        create table conversation_facts (
            id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            team_id uuid,
            assignee_id uuid,
            participant_ids uuid[] not null default '{}',
            owner_id uuid,
            sequence bigint not null
        )
    """)
    op.execute("comment on table conversation_facts is 'projection of EVT_CONVERSATION: what the access rule reads'")
    op.execute("create index conversation_facts_account on conversation_facts (account_id)")
