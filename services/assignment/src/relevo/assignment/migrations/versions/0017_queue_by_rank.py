"""The next of a queue from where its index has them, whatever stands before."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("drop index conversations_held_queue")
    # The rank itself, not minus the rank: negating is not leakproof, so that no policy of rows lets it choose an index.
    op.execute("""
        create index conversations_held_queue on conversations_held
            (account_id, inbox_id, queue_key, rank desc, queued_at, conversation_id) where state = 'queued'
    """)
