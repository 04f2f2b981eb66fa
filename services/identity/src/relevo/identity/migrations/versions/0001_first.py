"""The directory, sign-in, keys, bus credentials, audit log."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table accounts (
        id uuid primary key,
        name text not null,
        language text not null,
        time_zone text not null,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        deleted_at timestamptz
    )
    """,
    "comment on column accounts.version is 'number of the last event of the account, as everywhere here; also its ETag'",
    """
    create table roles (
        id uuid primary key,
        account_id uuid not null references accounts,
        name text not null,
        permissions text[] not null,
        scope text not null,
        predefined boolean not null default false,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        deleted_at timestamptz,
        unique (account_id, id)
    )
    """,
    "create unique index roles_name on roles (account_id, lower(name)) where deleted_at is null",
    """
    create table agents (
        id uuid primary key,
        account_id uuid not null references accounts,
        name text not null,
        email text not null check (email = lower(email)),
        role_id uuid not null,
        inbox_ids uuid[],
        language text not null,
        active boolean not null default true,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        deleted_at timestamptz,
        unique (account_id, id),
        foreign key (account_id, role_id) references roles (account_id, id)
    )
    """,
    "comment on column agents.inbox_ids is 'null: every inbox'",
    "create unique index agents_email on agents (account_id, email) where deleted_at is null",
    "create index agents_sign_in on agents (email) where deleted_at is null",
    "create index agents_role on agents (role_id)",
    """
    create table teams (
        id uuid primary key,
        account_id uuid not null references accounts,
        name text not null,
        description text not null default '',
        auto_assign boolean not null default true,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        deleted_at timestamptz,
        unique (account_id, id)
    )
    """,
    "create unique index teams_name on teams (account_id, lower(name)) where deleted_at is null",
    """
    create table team_members (
        account_id uuid not null,
        team_id uuid not null,
        agent_id uuid not null,
        primary key (team_id, agent_id),
        foreign key (account_id, team_id) references teams (account_id, id),
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "create index team_members_agent on team_members (agent_id)",
    """
    create table passwords (
        agent_id uuid primary key,
        account_id uuid not null,
        hash text not null,
        changed_at timestamptz not null default now(),
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "comment on column passwords.hash is 'argon2id with its parameters and salt'",
    """
    create table sign_in_attempts (
        subject text primary key,
        attempts integer not null,
        since timestamptz not null
    )
    """,
    (
        "comment on table sign_in_attempts is "
        "'counts per address and per IP; before sign-in no account is known, so it has none'"
    ),
    "comment on column sign_in_attempts.subject is 'SHA-256 of what is counted: no addresses are kept here'",
    """
    create table sessions (
        id uuid primary key,
        account_id uuid not null,
        agent_id uuid not null,
        created_at timestamptz not null default now(),
        refreshed_at timestamptz not null default now(),
        ip text not null,
        user_agent text not null,
        ended_at timestamptz,
        end_reason text,
        foreign key (account_id, agent_id) references agents (account_id, id)
    )
    """,
    "create index sessions_agent on sessions (agent_id) where ended_at is null",
    """
    create table refresh_tokens (
        sha256 bytea primary key,
        account_id uuid not null,
        session_id uuid not null references sessions on delete cascade,
        issued_at timestamptz not null default now(),
        expires_at timestamptz not null,
        used_at timestamptz
    )
    """,
    "comment on column refresh_tokens.used_at is 'a token is good once; seen again, it ends its session'",
    "create index refresh_tokens_session on refresh_tokens (session_id)",
    "create index refresh_tokens_expiry on refresh_tokens (expires_at)",
    """
    create table api_keys (
        id uuid primary key,
        account_id uuid not null references accounts,
        name text not null,
        sha256 text not null unique,
        permissions text[] not null,
        scope text not null,
        created_by uuid,
        expires_at timestamptz,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        deleted_at timestamptz,
        foreign key (account_id, created_by) references agents (account_id, id)
    )
    """,
    "comment on column api_keys.created_by is 'the agent; the key ends with them. Null: made by another key'",
    "create index api_keys_account on api_keys (account_id, id) where deleted_at is null",
    "create index api_keys_agent on api_keys (created_by) where deleted_at is null",
    """
    create table bus_credentials (
        id uuid primary key,
        account_id uuid not null references accounts,
        kind text not null check (kind in ('adapter', 'metrics')),
        name text not null,
        inbox_id uuid check ((inbox_id is not null) = (kind = 'adapter')),
        user_key text not null unique,
        sha256 text unique check ((sha256 is not null) = (kind = 'adapter')),
        created_by uuid,
        state text not null check (state in ('pending', 'active', 'revoked')),
        settled boolean not null default false,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        revoked_at timestamptz,
        foreign key (account_id, created_by) references agents (account_id, id)
    )
    """,
    "comment on column bus_credentials.user_key is 'public NATS key of the user; its seed is nowhere here'",
    "comment on column bus_credentials.sha256 is 'of the key for the HTTP door'",
    (
        "comment on column bus_credentials.state is "
        "'pending: being made, nobody has it yet; revoked rows stay: the broker is told all revocations each time'"
    ),
    "comment on column bus_credentials.settled is 'whether the broker is as state says'",
    "create index bus_credentials_account on bus_credentials (account_id, id)",
    "create index bus_credentials_unsettled on bus_credentials (id) where not settled",
    "create index bus_credentials_agent on bus_credentials (created_by) where state <> 'revoked'",
    "create index bus_credentials_inbox on bus_credentials (inbox_id)",
    """
    create table signing_keys (
        id uuid primary key,
        public_pem text not null,
        private_sealed bytea not null,
        version bigint not null default 1,
        created_at timestamptz not null default now(),
        not_after timestamptz
    )
    """,
    "comment on table signing_keys is 'of the platform, hence without account: every account''s tokens are signed alike'",
    "comment on column signing_keys.private_sealed is 'AES-256-GCM under the master key: nonce, ciphertext, tag'",
    "comment on column signing_keys.not_after is 'null: it may sign; else it only verifies, until then'",
    """
    create table audit_log (
        seq bigint generated always as identity primary key,
        id uuid not null,
        account_id uuid not null,
        at timestamptz not null,
        actor text not null,
        actor_name text not null,
        action text not null,
        entity_kind text not null,
        entity_id text not null,
        before jsonb,
        after jsonb,
        ip text not null,
        user_agent text not null
    )
    """,
    (
        "comment on column audit_log.seq is "
        "'writers hold the account''s lock: within an account it grows in the order of commits'"
    ),
    "create index audit_log_account on audit_log (account_id, seq)",
    """
    create function audit_log_is_append_only() returns trigger language plpgsql as
    $$ begin raise exception 'the audit log is append-only'; end $$
    """,
    """
    create trigger audit_log_append_only before update or delete or truncate on audit_log
    for each statement execute function audit_log_is_append_only()
    """,
)


def upgrade() -> None:
    create_chassis_tables(op)
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the first version has nothing before it")
