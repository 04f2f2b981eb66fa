"""Who of the team wrote to the customer last."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table conversations add column last_responder_id uuid")
    op.execute("comment on column conversations.last_responder_id is 'the agent who wrote to the customer last'")
