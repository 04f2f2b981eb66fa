"""Snoozing, and the line that each change leaves in the conversation."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table conversations add column snoozed_until timestamptz",
    "alter table conversations add check (snoozed_until is null or status = 'snoozed')",
    "comment on column conversations.snoozed_until is 'null while snoozed: until the customer writes'",
    "alter table messages add column activity jsonb",
    "alter table messages add check ((activity is not null) = (kind = 'activity'))",
    "comment on column messages.activity is 'what an activity line tells: code, and from and to where it has them'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
