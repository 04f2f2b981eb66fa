"""Business calendars."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table calendars (
        id uuid primary key,
        account_id uuid not null references accounts,
        name text not null,
        state jsonb not null,
        version bigint not null,
        created_at timestamptz not null default now(),
        deleted_at timestamptz
    )
    """,
    "comment on column calendars.state is 'the whole of it, as it is published'",
    "create index calendars_account on calendars (account_id, id) where deleted_at is null",
    "create unique index calendars_name on calendars (account_id, lower(name)) where deleted_at is null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
