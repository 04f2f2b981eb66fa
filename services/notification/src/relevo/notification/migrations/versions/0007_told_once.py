"""What is told is counted in the row that is there: no index has a column that this changes, and pages keep room for it."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("drop index notifications_age")
    op.execute("alter table notifications set (fillfactor = 80)")
    op.execute(
        "comment on column notifications.created_at is 'of the newest that it stands for; the id is as old as the first'"
    )
