"""Outgoing webhooks."""

from alembic import op

from relevo.chassis.migrations import create_webhook_tables

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_webhook_tables(op)
