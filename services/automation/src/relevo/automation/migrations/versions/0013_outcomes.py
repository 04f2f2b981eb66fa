"""What rules did, by outcomes that are rare: else all executions are looked through for them."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create index executions_outcome on executions (account_id, outcome, created_at desc, id desc)"
        " where outcome <> 'ordered'"
    )
