"""Conversations know whom their notes mention, so that the list of one's mentions is found among what is unresolved."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table conversations add column mentioned text[] not null default '{}'",
    "comment on column conversations.mentioned is 'actors that notes of it mention, each once'",
)
_FILLED = """
    update conversations c set mentioned = m.actors
    from (
        select account_id, conversation_id, array_agg(distinct actor order by actor) as actors
        from messages, unnest(mentions) as actor
        where mentions <> '{}' and conversation_id is not null
        group by account_id, conversation_id
    ) m
    where c.id = m.conversation_id and c.account_id = m.account_id
"""
_INDEXES = (
    "create index conversations_mentioned on conversations using gin (mentioned) where mentioned <> '{}'",
    "drop index messages_mentions",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    # The counts follow every change of a conversation, by their triggers.
    with every_row(op, "messages", "conversations", "conversation_counts", "conversation_count_changes"):
        op.execute(_FILLED)
    for statement in _INDEXES:
        op.execute(statement)
