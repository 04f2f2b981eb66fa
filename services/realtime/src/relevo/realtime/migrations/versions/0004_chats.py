"""Which conversation a webchat's visitor is in, and the reverse: for typing."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table chats (
            conversation_id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            visitor_id text not null,
            number bigint not null
        )
    """)
    op.execute("comment on table chats is 'projection of EVT_CONVERSATION: the conversations of webchats'")
    op.execute("create index chats_visitor on chats (account_id, inbox_id, visitor_id, number)")
