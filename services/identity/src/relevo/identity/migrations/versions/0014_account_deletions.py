"""Accounts that are to be deleted, and the certificates of those that were."""

from alembic import op

from relevo.chassis.migrations import create_drop_tables

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table account_deletions (
        account_id uuid primary key,
        id uuid not null unique,
        asked_at timestamptz not null,
        due_at timestamptz not null,
        asked_by text not null,
        asked_by_name text not null,
        reminded boolean not null default false
    )
    """,
    "comment on table account_deletions is 'accounts whose deletion was asked for and can still be called off'",
    "create index account_deletions_due on account_deletions (due_at)",
    """
    create table account_certificates (
        id uuid primary key,
        account uuid not null unique,
        state text not null check (state in ('closed', 'dropping', 'sweeping', 'own', 'done')),
        asked_at timestamptz not null,
        closed_at timestamptz not null,
        parts jsonb not null default '{}',
        done_at timestamptz
    )
    """,
    "comment on table account_certificates is 'what became of accounts that were deleted: ids, times and numbers; kept for ever'",
    "comment on column account_certificates.account is 'not account_id: the certificate is the operator''s and outlives the account'",
    "comment on column account_certificates.parts is 'by service: what it held, when it had dropped it, and when it had looked again'",
    "create index account_certificates_at_work on account_certificates (id) where done_at is null",
    """
    create table revoked_users (
        user_key text primary key,
        revoked_at timestamptz not null
    )
    """,
    "comment on table revoked_users is 'users of the broker that were of accounts that are gone: revoked for ever, as their passes do not expire'",
    # The audit log of an account goes with the account, and in no other way.
    """
    create or replace function audit_log_is_append_only() returns trigger language plpgsql as $$
    begin
        if tg_op = 'DELETE' and exists (
            select from account_drops where '{' || id || '}' = current_setting('relevo.accounts', true)
        ) then
            return null;
        end if;
        raise exception 'the audit log is append-only';
    end $$
    """,
)


def upgrade() -> None:
    create_drop_tables(op)
    for statement in _STATEMENTS:
        op.execute(statement)
