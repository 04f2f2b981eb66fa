"""Attachments that the team sends."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table files (
        id uuid primary key,
        account_id uuid not null,
        name text not null,
        content_type text not null,
        size bigint,
        sha256 bytea,
        uploaded_by text not null,
        message_id uuid,
        forgotten boolean not null default false,
        created_at timestamptz not null
    )
    """,
    "comment on column files.size is 'bytes; null until the file is in the object store whole'",
    "comment on column files.forgotten is 'its message was deleted: the bytes go too'",
    "create index files_of_message on files (message_id) where message_id is not null",
    "create index files_forgotten on files (created_at) where forgotten or message_id is null",
    """
    create table file_secrets (
        account_id uuid primary key,
        secret bytea not null
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
