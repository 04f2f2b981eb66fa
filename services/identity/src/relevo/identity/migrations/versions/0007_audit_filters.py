"""Indexes for what the audit log is filtered by."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "create index audit_log_entity on audit_log (account_id, entity_id, seq)",
    "create index audit_log_actor on audit_log (account_id, actor, seq)",
    "create index audit_log_action on audit_log (account_id, action, seq)",
    "create index audit_log_at on audit_log (account_id, at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
