"""Business time beside clock time: by which calendar a fact was measured, and the totals of what was."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table facts add column calendar_id uuid, add column calendar_version bigint")
    op.execute("comment on column facts.calendar_version is 'the version of the calendar that business_value is by'")
    for name in ("minute", "hour", "day"):
        op.execute(
            f"alter table rollup_{name} add column business_count bigint not null default 0,"
            " add column business_sum numeric(24, 6) not null default 0"
        )
        op.execute(f"comment on column rollup_{name}.business_count is 'of count, those measured in business time'")
