"""The catalogue of labels, with those that are in use."""

from alembic import op
from sqlalchemy import literal_column
from sqlalchemy.dialects import postgresql

from relevo.chassis.migrations import every_row
from relevo.kernel.text import fold_sql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table labels (
        id uuid primary key,
        account_id uuid not null,
        key text not null,
        name text not null,
        folded text not null,
        color text not null,
        description text not null,
        sidebar boolean not null,
        state text not null check (state in ('live', 'merging', 'merged', 'deleting')),
        into_key text check ((into_key is not null) = (state in ('merging', 'merged'))),
        version bigint not null,
        updated_by text not null,
        updated_at timestamptz not null,
        unique (account_id, key)
    )
    """,
    "create index labels_by_name on labels (account_id, folded, id)",
    "create index labels_into on labels (account_id, into_key) where into_key is not null",
    "comment on column labels.key is 'what conversations and contacts carry; never changes'",
    "comment on column labels.folded is 'the name as it is compared and ordered'",
)

_USED = """
    insert into labels (id, account_id, key, name, folded, color, description, sidebar, state, version, updated_by,
                        updated_at)
    select gen_random_uuid(), account_id, label, label, {folded}, '#6b7280', '', true, 'live', 1, 'system', now()
    from (
        select account_id, unnest(labels) as label from conversations where labels <> '{{}}'
        union
        select account_id, unnest(labels) from contacts where labels <> '{{}}'
    ) as used
"""


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    folded = fold_sql(literal_column("label")).compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    with every_row(op, "conversations", "contacts"):
        op.get_bind().exec_driver_sql(_USED.format(folded=folded))
