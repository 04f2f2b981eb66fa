"""What was said, and is said otherwise or later: edits, retries, messages that wait for their time, signatures."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table messages add column retry_of uuid, add column edited_at timestamptz, add column deleted_at timestamptz",
    "comment on column messages.retry_of is 'the message that failed before this one said the same again'",
    "create unique index messages_retry on messages (retry_of) where retry_of is not null",
    """
    create table message_edits (
        account_id uuid not null,
        message_id uuid not null,
        edited_at timestamptz not null,
        actor text not null,
        text text not null,
        primary key (message_id, edited_at)
    )
    """,
    "comment on column message_edits.text is 'what the message said until then'",
    """
    create table waiting_messages (
        id uuid primary key,
        account_id uuid not null,
        conversation_id uuid not null,
        agent_id uuid not null,
        author_name text not null,
        text text not null,
        reply_to uuid,
        attachments jsonb not null,
        send_at timestamptz not null,
        created_at timestamptz not null,
        refused text
    )
    """,
    "comment on column waiting_messages.id is 'the id that the message has once it is sent'",
    "comment on column waiting_messages.refused is 'why it could not be sent when its time came; null: it waits'",
    "create index waiting_messages_of on waiting_messages (conversation_id, send_at, id)",
    """
    create table signatures (
        account_id uuid not null,
        agent_id uuid primary key,
        text text not null
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
