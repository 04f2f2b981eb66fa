"""Whom this service was told to forget."""

from alembic import op

from relevo.chassis.migrations import create_erasure_tables

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


_STATEMENTS = (
    """
    alter table contact_erasures add column erasure_id uuid,
        drop column entities, drop column next_id, drop column last_id, drop column redacted
    """,
    """
    create table contact_erasure_parts (
        contact_id uuid not null,
        account_id uuid not null,
        service text not null,
        sweep boolean not null,
        done_at timestamptz,
        primary key (contact_id, service, sweep)
    )
    """,
    "comment on table contact_erasure_parts is 'which services have erased a person, and swept the streams they keep'",
    "alter table deleted_conversations add column contact_id uuid",
    "create index deleted_conversations_contact on deleted_conversations (account_id, contact_id)",
)


def upgrade() -> None:
    create_erasure_tables(op)
    for statement in _STATEMENTS:
        op.execute(statement)
