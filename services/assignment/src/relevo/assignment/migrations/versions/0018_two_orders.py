"""The first of a queue in the order of the places, too: without statistics the next ones by rank alone were sorted."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter index conversations_held_queue rename to conversations_held_ranks")
    op.execute("""
        create index conversations_held_queue on conversations_held
            (account_id, inbox_id, queue_key, (-rank), queued_at, conversation_id) where state = 'queued'
    """)
