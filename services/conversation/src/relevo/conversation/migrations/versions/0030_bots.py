"""Since when people have a conversation that a bot had first."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table conversations add column people_since timestamptz")
    op.execute("comment on column conversations.people_since is 'in this cycle, after a bot had it first'")
