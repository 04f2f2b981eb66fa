"""The second factor of sign-in."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table second_factors (
        agent_id uuid primary key,
        account_id uuid not null,
        secret_sealed bytea not null,
        last_step bigint not null default 0,
        created_at timestamptz not null default now(),
        confirmed_at timestamptz,
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "comment on column second_factors.secret_sealed is 'AES-256-GCM under the master key, with the agent as label'",
    "comment on column second_factors.last_step is 'codes up to this step are used up'",
    "comment on column second_factors.confirmed_at is 'null: being set up, and not asked for yet'",
    """
    create table recovery_codes (
        agent_id uuid not null references second_factors on delete cascade,
        account_id uuid not null,
        sha256 bytea not null,
        primary key (agent_id, sha256)
    )
    """,
    "comment on table recovery_codes is 'use deletes the row'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
