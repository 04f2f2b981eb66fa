"""Which accounts are synthetic, and how far writing them came."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table seedings (
        account_id uuid primary key,
        plan jsonb not null,
        indexes text[] not null default '{}',
        started_at timestamptz not null,
        finished_at timestamptz
    )
    """,
    "comment on table seedings is 'accounts whose conversations are synthetic: written by a seeding, told to nobody'",
    "comment on column seedings.indexes is 'definitions of the indexes that are away until the rows are there'",
    """
    create table seeded_blocks (
        account_id uuid not null references seedings (account_id) on delete cascade,
        block integer not null,
        primary key (account_id, block)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
