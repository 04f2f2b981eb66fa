"""The account's rules of availability as a text, and who has read which version."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table availability_policy (
            account_id uuid primary key,
            text_es text not null,
            text_en text not null,
            version integer not null,
            updated_at timestamptz not null,
            updated_by text not null
        )
    """)
    op.execute("""
        create table policy_acknowledged (
            account_id uuid not null,
            agent_id uuid not null,
            version integer not null,
            acknowledged_at timestamptz not null,
            primary key (account_id, agent_id)
        )
    """)
