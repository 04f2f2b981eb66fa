"""Whether and how an inbox asks customers how they were served."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table inboxes add column survey jsonb")
    op.execute("comment on column inboxes.survey is 'SurveySettings; null: customers are not asked'")
