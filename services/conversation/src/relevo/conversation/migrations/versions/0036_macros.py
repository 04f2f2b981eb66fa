"""Macros: named acts, one's own or everybody's."""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table macros (
        id uuid primary key,
        account_id uuid not null,
        agent_id uuid,
        name text not null,
        shared boolean not null,
        acts jsonb not null,
        version bigint not null,
        created_at timestamptz not null,
        updated_at timestamptz not null
    )
    """,
    "comment on column macros.agent_id is 'who made it; null: an API key'",
    "create index macros_of on macros (account_id, name)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
