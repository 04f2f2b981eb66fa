"""Erasures of persons: how far the log has been gone through."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table contacts add column erased_at timestamptz",
    """
    create table contact_erasures (
        contact_id uuid primary key,
        account_id uuid not null,
        actor text not null,
        actor_name text not null,
        entities text[] not null,
        next_id bigint not null default 0,
        last_id bigint not null,
        redacted integer not null default 0,
        asked_at timestamptz not null,
        done_at timestamptz
    )
    """,
    "comment on column contact_erasures.entities is 'the contact, those merged into it, their conversations'",
    "comment on column contact_erasures.next_id is 'rows of the outbox up to here hold nothing of the person'",
    "drop index contact_merges_old",
    "create index contact_merges_old on contact_merges (merged_at) where base <> '{}'",
    "create index contact_erasures_at_work on contact_erasures (asked_at) where done_at is null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
