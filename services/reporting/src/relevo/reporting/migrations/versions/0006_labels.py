"""Reports by label: what labels are called, and when they were put on."""

from alembic import op

from relevo.chassis.labels import DDL_V1

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in DDL_V1:
        op.execute(statement)
    op.execute(
        "create index facts_labels_added on facts (account_id, conversation_id, at) where metric = 'labels_added'"
    )
