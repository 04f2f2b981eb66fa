"""What brought a message or change about; conversations that were deleted."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table messages add column cause text",
    "comment on column messages.cause is 'type/id of the event or command that brought it about; null: its author did'",
    """
    create table deleted_conversations (
        id uuid primary key,
        account_id uuid not null,
        number bigint not null,
        actor text not null,
        actor_name text not null,
        reason text not null,
        deleted_at timestamptz not null
    )
    """,
    "create index deleted_conversations_newest on deleted_conversations (account_id, deleted_at desc, id desc)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
