"""What labels are called."""

from alembic import op

from relevo.chassis.labels import DDL_V1

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in DDL_V1:
        op.execute(statement)
