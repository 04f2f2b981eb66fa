"""The archive of the outbox, and rebuilds of projections."""

from alembic import op

from relevo.chassis.migrations import create_log_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_log_tables(op)
