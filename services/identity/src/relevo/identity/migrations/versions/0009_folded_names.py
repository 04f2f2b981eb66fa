"""Agents are found by a part of their name."""

from alembic import op
from sqlalchemy import literal_column
from sqlalchemy.dialects import postgresql

from relevo.kernel.names import folded_name_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    folded = folded_name_sql(literal_column("name")).compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    op.get_bind().exec_driver_sql(
        f'alter table agents add column folded_name text collate "C" generated always as ({folded}) stored'
    )
    op.execute(
        "create index agents_folded_name on agents (account_id, folded_name) include (id) where deleted_at is null"
    )
