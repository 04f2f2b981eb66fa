"""What is known of a contact beyond their channels: profile, custom attributes, notes, last activity."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    alter table contacts
        add column identifier text,
        add column company text not null default '',
        add column city text not null default '',
        add column country text,
        add column attributes jsonb not null default '{}'
    """,
    "comment on column contacts.identifier is 'theirs in another system; unique within the account'",
    "comment on column contacts.country is 'ISO 3166, two letters'",
    "comment on column contacts.attributes is 'custom attributes by key, each of its definition''s kind'",
    "create unique index contacts_identifier on contacts (account_id, identifier) where identifier is not null",
    "create index contacts_labels on contacts using gin (labels)",
    # Apart from contacts: every batch of messages writes it, and a contact's row has many indexes.
    """
    create table contact_activity (
        contact_id uuid primary key references contacts (id) on delete cascade,
        account_id uuid not null,
        at timestamptz not null
    ) with (fillfactor = 80)
    """,
    "comment on column contact_activity.at is 'when they wrote last, to the minute'",
    "create index contact_activity_newest on contact_activity (account_id, at desc, contact_id desc)",
    """
    create table contact_notes (
        id uuid primary key,
        account_id uuid not null,
        contact_id uuid not null references contacts (id) on delete cascade,
        text text not null,
        author text not null,
        author_name text not null,
        created_at timestamptz not null,
        edited_at timestamptz
    )
    """,
    "create index contact_notes_of on contact_notes (contact_id, id)",
    """
    create table attribute_definitions (
        id uuid primary key,
        account_id uuid not null,
        entity text not null check (entity in ('contact', 'conversation')),
        key text not null,
        name text not null,
        description text not null,
        kind text not null
            check (kind in ('text', 'number', 'currency', 'percent', 'date', 'list', 'checkbox', 'link')),
        options text[] not null,
        currency text,
        version bigint not null,
        created_at timestamptz not null,
        deleted_at timestamptz,
        unique (account_id, entity, key)
    )
    """,
    "comment on column attribute_definitions.kind is 'never changes, also after a deletion: values of it are stored'",
    "comment on column attribute_definitions.options is 'of a list: what may be chosen'",
    "comment on column attribute_definitions.currency is 'ISO 4217, of a currency'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
