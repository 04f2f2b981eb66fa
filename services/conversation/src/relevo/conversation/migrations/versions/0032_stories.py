"""Where the events of each conversation and contact lie in the log."""

from alembic import op

from relevo.chassis import stories
from relevo.contracts.streams import EVT_CONVERSATION

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in stories.ddl(EVT_CONVERSATION):
        op.execute(statement)
