"""Indexes of what is asked for most: the unresolved of an inbox, of an agent; and by date."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create index conversations_unresolved_inbox on conversations (account_id, inbox_id, last_activity_at desc, id desc)
        where status <> 'resolved'
    """,
    """
    create index conversations_unresolved_mine on conversations (account_id, assignee_id, last_activity_at desc, id desc)
        where status <> 'resolved' and assignee_id is not null
    """,
    "create index conversations_created on conversations (account_id, created_at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
