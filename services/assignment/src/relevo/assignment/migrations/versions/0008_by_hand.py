"""Which version a person decided last: rules that had not seen it come too late."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table conversations_held add column hand_version bigint not null default 0")
    op.execute("comment on column conversations_held.hand_version is 'what a person decided last; 0: none did'")
