"""Reactions to private notes."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table messages add column reactions jsonb not null default '[]'")
