"""After how many days what was resolved is put away by itself."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table inboxes add column archive_after_days integer check (archive_after_days > 0)")
    op.execute(
        "comment on column inboxes.archive_after_days is 'since it was resolved a conversation is archived; null: never'"
    )
