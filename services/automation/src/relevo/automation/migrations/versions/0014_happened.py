"""When what a rule fired on happened: by that it is counted how often it fires within an hour."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table executions add column happened_at timestamptz")
    op.execute(
        "comment on column executions.happened_at is 'the event''s own time; unknown for what was done before this column'"
    )
