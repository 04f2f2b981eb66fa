"""What rules do later, and executions that are about no conversation."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table rule_waits (
            id uuid primary key,
            account_id uuid not null,
            rule_id uuid not null,
            conversation_id uuid not null,
            unless text not null,
            due_at timestamptz not null,
            run jsonb not null,
            steps jsonb not null
        )
    """)
    op.execute("create index rule_waits_conversation on rule_waits (account_id, conversation_id)")
    op.execute("comment on column rule_waits.conversation_id is 'what it is about: a conversation, or a contact'")
    op.execute("comment on column rule_waits.unless is 'what makes it moot'")
    op.execute(
        "comment on column rule_waits.run is 'the execution that waits, and the event it came of: ids and times'"
    )
    op.execute("comment on column rule_waits.steps is 'what is still to be done, in order'")
    op.execute("alter table executions alter column conversation_id drop not null")
