"""Lists go by the minute of the last activity, and within it by its moment: most messages change no index any more."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_RANK = """(cast(case when priority = 'urgent' then 4 when priority = 'high' then 3 when priority = 'medium' then 2 else 1 end
    as bigint)) desc"""
_LISTS = {
    "newest": ("archived,", ""),
    "unresolved": ("", "where status <> 'resolved'"),
    "of_assignee": ("assignee_id,", "where assignee_id is not null"),
    "of_team": ("team_id,", "where team_id is not null"),
    "of_inbox": ("inbox_id,", ""),
    "priority": (f"{_RANK},", "where priority is not null"),
    "unresolved_inbox": ("inbox_id,", "where status <> 'resolved'"),
    "unresolved_mine": ("assignee_id,", "where status <> 'resolved' and assignee_id is not null"),
}


def upgrade() -> None:
    # While a conversation is written to within the same minute its rows are changed in place (HOT): every index had an
    # entry more for every message. The pages keep room for that.
    op.execute(
        """
        alter table conversations add column active_minute timestamptz not null generated always as (
            date_bin('1 minute', last_activity_at, timestamptz '2000-01-01 00:00:00+00')
        ) stored
        """
    )
    op.execute("comment on column conversations.active_minute is 'what lists are found by; put in order by the moment'")
    op.execute("alter table conversations set (fillfactor = 80)")
    for name, (columns, condition) in _LISTS.items():
        op.execute(f"drop index conversations_{name}")
        op.execute(
            f"create index conversations_{name} on conversations (account_id, {columns} active_minute desc) {condition}"
        )
