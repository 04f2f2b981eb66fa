"""When an inbox's bot is skipped, and how long people wait for it."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table inboxes
            add column bot_skips_owned boolean not null default false,
            add column bot_timeout_seconds integer not null default 60
    """)
