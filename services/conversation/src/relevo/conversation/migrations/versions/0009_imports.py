"""Contacts from files: the imports, their bytes, the rows that failed, and what a dry run has seen."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table contact_imports (
        id uuid primary key,
        account_id uuid not null,
        actor text not null,
        actor_name text not null,
        file_name text not null,
        state text not null
            check (state in ('new', 'uploaded', 'checking', 'checked', 'running', 'done', 'cancelled', 'failed')),
        file_id uuid,
        size bigint not null default 0,
        delimiter text not null default ',',
        header text[] not null default '{}',
        start_offset bigint not null default 0,
        start_line integer not null default 1,
        columns text[] not null default '{}',
        mode text not null default 'create_and_update'
            check (mode in ('create_and_update', 'create', 'update')),
        region text,
        next_offset bigint not null default 0,
        next_line integer not null default 1,
        created integer not null default 0,
        updated integer not null default 0,
        unchanged integer not null default 0,
        skipped integer not null default 0,
        failed integer not null default 0,
        error text,
        created_at timestamptz not null,
        started_at timestamptz,
        finished_at timestamptz,
        worked_at timestamptz
    )
    """,
    "comment on column contact_imports.columns is 'what each column of the header means; an empty text is nothing'",
    "comment on column contact_imports.next_offset is 'bytes of the file whose rows are done, in this very transaction'",
    "create index contact_imports_newest on contact_imports (account_id, id desc)",
    "create index contact_imports_at_work on contact_imports (worked_at) where state in ('checking', 'running')",
    "create index contact_imports_file on contact_imports (file_id) where file_id is not null",
    """
    create table contact_import_parts (
        account_id uuid not null,
        file_id uuid not null,
        n integer not null,
        data bytea not null,
        created_at timestamptz not null default now(),
        primary key (file_id, n)
    )
    """,
    # Names and numbers hardly compress, and a part is read whole.
    "alter table contact_import_parts alter column data set storage external",
    """
    create table contact_import_failures (
        account_id uuid not null,
        import_id uuid not null references contact_imports (id) on delete cascade,
        line integer not null,
        cells text[] not null,
        faults jsonb not null,
        primary key (import_id, line)
    )
    """,
    """
    create table contact_import_previews (
        account_id uuid not null,
        import_id uuid not null references contact_imports (id) on delete cascade,
        contact_id uuid not null,
        identifier text,
        email text,
        phone text,
        person jsonb not null,
        primary key (import_id, contact_id)
    )
    """,
    "comment on table contact_import_previews is 'contacts as a dry run would have left them; gone when it ends'",
    "create index contact_import_previews_identifier on contact_import_previews (import_id, identifier)",
    "create index contact_import_previews_email on contact_import_previews (import_id, email)",
    "create index contact_import_previews_phone on contact_import_previews (import_id, phone)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
