"""Sign-in at an identity provider."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table oidc_flows (
        state_sha256 bytea primary key,
        flow_sha256 bytea not null,
        nonce text not null,
        verifier text not null,
        expires_at timestamptz not null,
        used_at timestamptz,
        email text,
        subject text
    )
    """,
    "comment on table oidc_flows is 'sign-ins under way; before the provider has spoken no account is known, so it has none'",
    "comment on column oidc_flows.flow_sha256 is 'of what only the browser that began has: nobody can be made to end another''s'",
    "comment on column oidc_flows.subject is 'whom the provider vouched for; until the session begins'",
    "create index oidc_flows_expiry on oidc_flows (expires_at)",
    """
    create table oidc_identities (
        account_id uuid not null,
        agent_id uuid not null,
        issuer text not null,
        subject text not null,
        created_at timestamptz not null default now(),
        primary key (agent_id, issuer),
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "comment on table oidc_identities is 'who an agent is at the provider, from the first time on'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
