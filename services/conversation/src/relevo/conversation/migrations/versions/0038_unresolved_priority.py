"""The unresolved by priority: they are few among all that have one, and the list that is looked at most."""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create index conversations_unresolved_priority on conversations (
            account_id,
            ((case when priority = 'urgent' then 4 when priority = 'high' then 3 when priority = 'medium' then 2 else 1 end)::bigint) desc,
            active_minute desc
        ) where status <> 'resolved' and priority is not null
    """)
