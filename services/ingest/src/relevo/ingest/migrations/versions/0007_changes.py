"""What an inbox's channel can do to messages that were sent."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table inboxes add column changes text[] not null default '{}'")
    op.execute(
        "comment on column inboxes.changes is 'edit, delete: what its channel can do to messages that were sent'"
    )
