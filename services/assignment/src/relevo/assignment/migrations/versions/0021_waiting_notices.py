"""Customers are told how long they will wait: how often they were, and when."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table conversations_held
            add column notices smallint not null default 0,
            add column noticed_at timestamptz
    """)
    op.execute(
        "comment on column conversations_held.notices is 'how often its customer was told, since it waits, how long it will'"
    )
