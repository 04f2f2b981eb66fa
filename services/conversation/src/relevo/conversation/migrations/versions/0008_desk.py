"""What each agent has of their own: what they have seen, what they were mentioned in, what they are writing."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table seen (
        account_id uuid not null,
        agent_id uuid not null,
        conversation_id uuid not null,
        sequence bigint not null,
        seen_at timestamptz not null,
        primary key (agent_id, conversation_id)
    )
    """,
    "comment on column seen.sequence is 'the agent has seen the conversation up to this number; what came later is unread'",
    """
    create table mentions (
        account_id uuid not null,
        agent_id uuid not null,
        conversation_id uuid not null,
        message_id uuid not null,
        mentioned_at timestamptz not null,
        primary key (agent_id, message_id)
    )
    """,
    "comment on table mentions is 'the people whom private notes mention, a team standing for its members then'",
    "create index mentions_newest on mentions (account_id, agent_id, mentioned_at desc, message_id desc)",
    """
    create table drafts (
        account_id uuid not null,
        agent_id uuid not null,
        conversation_id uuid not null,
        text text not null,
        private boolean not null,
        updated_at timestamptz not null,
        primary key (agent_id, conversation_id)
    )
    """,
    "create index drafts_newest on drafts (account_id, agent_id, updated_at desc, conversation_id desc)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
