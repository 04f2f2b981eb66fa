"""What was handled lately, so that a stream that is published again is not handled again."""

from alembic import op

from relevo.chassis.migrations import create_handled_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_handled_table(op)
