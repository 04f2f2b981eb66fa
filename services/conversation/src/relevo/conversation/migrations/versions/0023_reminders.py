"""Reminders to follow up."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table reminders (
        id uuid primary key,
        account_id uuid not null,
        conversation_id uuid not null,
        agent_id uuid,
        text text not null,
        unless text not null
            check (unless in ('customer_answers', 'agent_answers', 'anyone_answers', 'nothing')),
        remind text not null check (remind in ('agent', 'assignee', 'team')),
        set_by text not null,
        set_at timestamptz not null,
        due_at timestamptz not null,
        cycle integer not null,
        sequence bigint not null
    )
    """,
    "create index reminders_of on reminders (account_id, conversation_id, due_at)",
    "create index reminders_next on reminders (account_id, due_at, id)",
    "comment on table reminders is 'those that wait; one that is due, moot when due, or cancelled is gone'",
    "comment on column reminders.sequence is 'the number of the conversation''s event that set it: answers come after'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
