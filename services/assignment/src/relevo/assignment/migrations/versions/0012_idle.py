"""When a conversation left an agent last; since when what is open is with its holder, or waits with its team."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with every_row(op, "conversations_held", "decisions"):
        op.execute("""
            update conversations_held h set held_since = d.created_at from decisions d
            where d.id = h.decision_id and h.state in ('assigned', 'queued') and h.held_since is null
        """)
    op.execute("alter table agents add column released_at timestamptz")
    op.execute("comment on column agents.released_at is 'when a conversation left them last'")
