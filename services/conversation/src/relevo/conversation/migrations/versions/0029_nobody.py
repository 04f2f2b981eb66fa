"""What nobody has, in the order of activity: those who see little would read most of the account to find fifty."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create index conversations_nobody on conversations (account_id, active_minute desc) where assignee_id is null"
    )
