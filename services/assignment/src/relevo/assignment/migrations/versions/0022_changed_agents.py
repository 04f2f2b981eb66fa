"""An index by which a replica finds the agents that others changed since its own last run."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index agents_then_changed on agents_then (account_id, run)")
