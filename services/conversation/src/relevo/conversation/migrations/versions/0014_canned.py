"""Canned replies, and acts on many conversations at once."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table canned_replies (
        id uuid primary key,
        account_id uuid not null,
        code text not null,
        text text not null,
        folded text not null,
        version integer not null,
        updated_by text not null,
        updated_at timestamptz not null,
        unique (account_id, code)
    )
    """,
    "comment on column canned_replies.folded is 'the text as it is searched: kernel.text.fold'",
    """
    create table bulk_jobs (
        id uuid primary key,
        account_id uuid not null,
        actor text not null,
        viewer jsonb not null,
        act jsonb not null,
        ids uuid[] not null,
        state text not null check (state in ('running', 'done', 'cancelled')),
        done integer not null default 0,
        changed integer not null default 0,
        refused integer not null default 0,
        refusals jsonb not null default '[]',
        created_at timestamptz not null,
        finished_at timestamptz
    )
    """,
    "comment on column bulk_jobs.viewer is 'what whoever asked may see and do, as it was then'",
    "comment on column bulk_jobs.done is 'how many of ids, from the first, were seen to'",
    "create index bulk_jobs_newest on bulk_jobs (account_id, actor, created_at desc)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
