"""One-time links."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table links (
        id uuid primary key,
        account_id uuid not null,
        agent_id uuid not null,
        purpose text not null check (purpose in ('invitation', 'password_reset', 'email_change')),
        email text not null check (email = lower(email)),
        sha256 bytea not null unique,
        created_at timestamptz not null default now(),
        expires_at timestamptz not null,
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "comment on table links is 'one-time links that were sent by e-mail; use deletes the row'",
    "comment on column links.email is 'the address that it was sent to'",
    "comment on column links.sha256 is 'of the token, which is kept nowhere'",
    "create index links_agent on links (agent_id)",
    "create index links_expiry on links (expires_at) where purpose <> 'invitation'",
    "create index sessions_seen on sessions (agent_id, refreshed_at)",
    "comment on column agents.active is 'false: invited, and not accepted yet'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
