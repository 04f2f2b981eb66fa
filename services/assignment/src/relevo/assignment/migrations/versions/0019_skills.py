"""What agents can, and what conversations need of whoever gets them."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table agents add column skills jsonb not null default '{}'")
    op.execute("alter table agents_then add column skills jsonb")
    op.execute("alter table conversations_held add column needs jsonb not null default '{}'")
    op.execute("alter table decisions add column needs jsonb not null default '{}'")
    op.execute("comment on column agents.skills is 'levels from 1 to 5 by skill'")
    op.execute("comment on column agents_then.skills is 'as in agents; null: none'")
    op.execute(
        "comment on column conversations_held.needs is 'the least levels of whoever gets it from the queue, by skill'"
    )
    op.execute("comment on column decisions.needs is 'likewise, at the decision'")
