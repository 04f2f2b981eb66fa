"""Merges of contacts, so that they can be undone."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table contact_merges (
        id uuid primary key,
        account_id uuid not null,
        base_id uuid not null,
        other_id uuid not null,
        actor text not null,
        actor_name text not null,
        base jsonb not null,
        other jsonb not null,
        other_created_at timestamptz not null,
        other_active_at timestamptz,
        channels jsonb not null,
        conversations uuid[] not null,
        notes uuid[] not null,
        messages uuid[] not null,
        merged_at timestamptz not null,
        undone_at timestamptz
    )
    """,
    "comment on table contact_merges is 'what a merge moved, by where it was; kept as long as it can be undone'",
    "comment on column contact_merges.base is 'the contact that stayed, as it was before'",
    "comment on column contact_merges.messages is 'withheld ones, that are in no conversation'",
    "create index contact_merges_of_base on contact_merges (account_id, base_id, merged_at desc)",
    "create index contact_merges_of_other on contact_merges (account_id, other_id, merged_at desc)",
    "create index contact_merges_old on contact_merges (merged_at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
