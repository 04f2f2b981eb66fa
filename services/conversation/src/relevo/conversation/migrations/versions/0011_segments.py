"""Saved filters of contacts."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table contact_segments (
        id uuid primary key,
        account_id uuid not null,
        agent_id uuid,
        name text not null,
        shared boolean not null,
        filter jsonb not null,
        version bigint not null,
        created_at timestamptz not null,
        updated_at timestamptz not null
    )
    """,
    "comment on column contact_segments.agent_id is 'who made it; null: an API key'",
    "create index contact_segments_of on contact_segments (account_id, name)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
