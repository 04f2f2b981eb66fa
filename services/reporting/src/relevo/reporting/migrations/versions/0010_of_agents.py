"""An index of each agent's facts: a year of one agent is a two-hundredth of the account's."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create index facts_of_agent on facts (account_id, agent_id, metric, at)"
        " include (value, business_value, replaced) where agent_id is not null"
    )
