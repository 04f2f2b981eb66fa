"""Conversations of people who were erased: nothing that was said in them before is told any more."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table erased_conversations (
            id uuid primary key,
            account_id uuid not null,
            at timestamptz not null
        )
    """)
    op.execute("create index notifications_conversation on notifications (conversation_id)")
    op.execute("create index mails_conversation on mails (conversation_id) where conversation_id is not null")
    op.execute("create index pushes_conversation on pushes (conversation_id) where conversation_id is not null")
