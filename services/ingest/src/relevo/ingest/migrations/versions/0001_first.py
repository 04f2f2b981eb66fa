"""Inboxes, the ledger, senders, conflicts, quarantine, dead letters."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LEDGER_PARTITIONS = 16


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute(
        """
        create table inboxes (
            id uuid primary key,
            account_id uuid not null,
            name text not null,
            channel text not null,
            enabled boolean not null,
            reopen text not null,
            team_id uuid,
            bot_first boolean not null,
            phone_region text not null,
            webhook_url text,
            version int not null,
            created_at timestamptz not null,
            updated_at timestamptz not null,
            deleted_at timestamptz
        )
        """
    )
    op.execute("create index inboxes_of_account on inboxes (account_id, id) where deleted_at is null")
    op.execute("comment on column inboxes.version is 'sequence of the inbox''s last event; also its ETag'")
    op.execute("comment on column inboxes.deleted_at is 'removed inboxes stay: the ledger refers to them for ever'")
    op.execute(
        """
        create table ledger (
            inbox_id uuid not null,
            dedup_key bytea not null,
            account_id uuid not null,
            body_hash bytea not null,
            accepted_at timestamptz not null,
            primary key (inbox_id, dedup_key)
        ) partition by hash (dedup_key)
        """
    )
    op.execute("comment on table ledger is 'every event ever accepted, for ever: what makes a repetition one'")
    op.execute("comment on column ledger.dedup_key is '16 bytes: BLAKE2b of the kind and the parts of its key'")
    for number in range(LEDGER_PARTITIONS):
        op.execute(
            f"create table ledger_{number:02d} partition of ledger "
            f"for values with (modulus {LEDGER_PARTITIONS}, remainder {number})"
        )
    op.execute(
        """
        create table senders (
            inbox_id uuid not null,
            sender_key text not null,
            account_id uuid not null,
            sequence bigint not null,
            first_seen timestamptz not null,
            last_seen timestamptz not null,
            primary key (inbox_id, sender_key)
        )
        """
    )
    op.execute("comment on column senders.sequence is 'number of the sender''s last event; its row lock orders them'")
    op.execute(
        """
        create table conflicts (
            inbox_id uuid not null,
            dedup_key bytea not null,
            body_hash bytea not null,
            account_id uuid not null,
            external_id text not null,
            body jsonb not null,
            occurrences int not null,
            first_seen timestamptz not null,
            last_seen timestamptz not null,
            primary key (inbox_id, dedup_key, body_hash)
        )
        """
    )
    op.execute("comment on table conflicts is 'events that came again with another body; the first one stands'")
    op.execute(
        """
        create table quarantine (
            id uuid primary key,
            account_id text not null,
            inbox_id text not null,
            fingerprint bytea not null,
            subject text not null,
            reason text not null,
            faults jsonb not null,
            body bytea not null,
            truncated boolean not null,
            occurrences int not null,
            received_at timestamptz not null,
            last_seen timestamptz not null,
            state text not null,
            resolved_at timestamptz,
            resolved_by text,
            resolution jsonb
        )
        """
    )
    op.execute("create unique index quarantine_open on quarantine (account_id, fingerprint) where state = 'open'")
    op.execute("create index quarantine_list on quarantine (account_id, state, id desc)")
    op.execute("comment on column quarantine.account_id is 'as in the subject: may name no account at all'")
    op.execute(
        "comment on column quarantine.fingerprint is 'hash of subject and body: an adapter that repeats is one row'"
    )
    op.execute(
        """
        create table dead_letters_seen (
            id uuid primary key,
            account_id text not null,
            service text not null,
            stream text not null,
            stream_seq bigint not null,
            subject text not null,
            headers jsonb not null,
            body bytea not null,
            body_encoding text not null,
            reason text not null,
            error text not null,
            attempts int not null,
            died_at timestamptz not null,
            seen_at timestamptz not null,
            state text not null
        )
        """
    )
    op.execute("create index dead_letters_seen_list on dead_letters_seen (account_id, state, id desc)")
