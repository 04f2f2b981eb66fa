"""Which accounts this service was told to drop."""

from alembic import op

from relevo.chassis.migrations import create_drop_tables

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_drop_tables(op)
