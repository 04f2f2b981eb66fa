"""Past conversations that were imported: what was said elsewhere, and by what another system knows them."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table conversations add column imported_through bigint not null default 0, add column external_key text",
    "comment on column conversations.imported_through is 'messages up to this number came with an import; 0: none did'",
    "comment on column conversations.external_key is 'digest of the id in the system it came from; it comes only once'",
    """
    create unique index conversations_external on conversations (account_id, external_key) where external_key is not null
    """,
    """
    alter table contact_imports
        add column kind text not null default 'contacts' check (kind in ('contacts', 'conversations')),
        add column inbox_ids uuid[]
    """,
    "comment on column contact_imports.kind is 'what the file holds; the table is older than the second kind'",
    "comment on column contact_imports.inbox_ids is 'where who started it may put conversations; null: anywhere'",
    """
    create table conversation_import_keys (
        account_id uuid not null,
        import_id uuid not null references contact_imports (id) on delete cascade,
        external_key text not null,
        line integer not null,
        primary key (import_id, external_key)
    )
    """,
    "comment on table conversation_import_keys is 'what one file has named so far; gone when its import ends'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
