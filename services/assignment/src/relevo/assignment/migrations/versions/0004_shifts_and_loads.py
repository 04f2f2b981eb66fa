"""Agents outside of their shift, and accounts that want to hear what agents hold."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table agents add column in_shift boolean")
    op.execute("""
        alter table pools
            add column out_of_shift boolean not null default false,
            add column tells_loads boolean not null default false
    """)
    op.execute("comment on column pools.tells_loads is 'presence has rules for this account that look at loads'")
