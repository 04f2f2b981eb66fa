"""Jobs on many conversations act with the rights that who asked has by then, not with those of the beginning."""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table bulk_jobs drop column viewer")
