"""Rules that come by the clock."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table rules add column schedule jsonb")
    op.execute(
        "alter table rules add constraint rules_schedule check ((schedule is not null) = (trigger = 'schedule'))"
    )
    op.execute(
        "comment on column rules.schedule is 'when it comes, and to which conversations, if it comes by the clock'"
    )
