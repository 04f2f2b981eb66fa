"""Satisfaction surveys."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table surveys (
        id uuid primary key,
        account_id uuid not null,
        conversation_id uuid not null,
        cycle integer not null,
        way text not null check (way in ('link', 'reply')),
        inbox_id uuid not null,
        agent_id uuid,
        team_id uuid,
        language text not null,
        sent_at timestamptz not null,
        answer_until timestamptz not null,
        change_days integer not null,
        rating smallint check (rating between 1 and 5),
        comment text not null default '',
        version integer not null default 0,
        answered_at timestamptz,
        changed_at timestamptz,
        unique (conversation_id, cycle)
    )
    """,
    "comment on column surveys.agent_id is 'who is credited: who resolved the conversation, as it was then'",
    "comment on column surveys.version is 'how often it was answered'",
    """
    create index surveys_answered on surveys (account_id, answered_at desc, id desc)
        where answered_at is not null
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
