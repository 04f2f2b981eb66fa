"""Custom attributes of conversations."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table conversations add column attributes jsonb not null default '{}'")
