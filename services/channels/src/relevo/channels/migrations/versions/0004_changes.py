"""Replies that the team edits or deletes after they were sent."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "create sequence webchat_changes",
    "alter table webchat_messages add column edited_at timestamptz",
    "alter table webchat_messages add column deleted_at timestamptz",
    "alter table webchat_messages add column changed bigint",
    "comment on column webchat_messages.changed is 'rises with each change of any message: what an open page has not heard of'",
    """
    create index webchat_messages_changed on webchat_messages (inbox_id, visitor_id, changed)
        where changed is not null
    """,
    "alter table deliveries add column kind text not null default 'message' check (kind in ('message', 'update'))",
    "comment on column deliveries.message_id is 'UUIDv7: the order within a conversation; of an update the id of the change'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
