"""Conversations that became part of others."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table conversations add column merged_into uuid, add column absorbed integer not null default 0",
    "comment on column conversations.merged_into is 'the one that it is part of: it is over'",
    "comment on column conversations.absorbed is 'how many are part of it: what was said there is shown in it'",
    """
    create table conversation_merges (
        id uuid primary key,
        account_id uuid not null,
        base_id uuid not null,
        other_id uuid not null,
        place bigint not null,
        reopen boolean not null,
        unarchive boolean not null,
        labels text[] not null,
        participant_ids uuid[] not null,
        base_waiting timestamptz,
        other_waiting timestamptz,
        actor text not null,
        actor_name text not null,
        merged_at timestamptz not null,
        undone_at timestamptz
    )
    """,
    "comment on column conversation_merges.place is 'number of the event of the base that tells of it'",
    "create index conversation_merges_base on conversation_merges (account_id, base_id) where undone_at is null",
    "create unique index conversation_merges_other on conversation_merges (other_id) where undone_at is null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
