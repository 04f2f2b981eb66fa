"""Whether an inbox tells its visitors that the team is writing."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table inboxes add column show_typing boolean not null default true")
