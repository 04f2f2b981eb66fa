"""When agents were given the last ones, as far as the policy's pace counts them."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table agents add column given timestamptz[] not null default '{}'")
    op.execute("alter table agents_then add column given timestamptz[]")
    op.execute(
        "comment on column agents.given is 'when they were given the last ones, as far as the policy''s pace counts them'"
    )
    op.execute("comment on column agents_then.given is 'as in agents; null: none counted'")
