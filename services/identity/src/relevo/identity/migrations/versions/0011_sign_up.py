"""Self sign-up, and which address an agent has proved to be theirs."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table sign_ups (
        account_id uuid primary key,
        sha256 bytea not null unique,
        email text not null check (email = lower(email)),
        name text not null,
        account_name text not null,
        language text not null,
        time_zone text not null,
        expires_at timestamptz not null
    )
    """,
    "comment on table sign_ups is 'accounts that somebody wants, until the address is confirmed; use deletes the row'",
    "comment on column sign_ups.account_id is 'what the account will be; until then there is none of this id'",
    "comment on column sign_ups.sha256 is 'of the token, which is kept nowhere'",
    "create index sign_ups_expiry on sign_ups (expires_at)",
    "alter table agents add column proved_email text",
    (
        "comment on column agents.proved_email is "
        "'the last address at which a link, or the identity provider, found this person; theirs as long as it is email'"
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
