"""Counts of the standing views that are kept, saved views, and the indexes of the orders and of mentions."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_GROUP = "account_id, inbox_id, team_id, assignee_id"
_UNATTENDED = "status in ('open', 'pending') and (first_reply_at is null or waiting_since is not null)"
_COLUMNS = """
    account_id uuid not null, inbox_id uuid not null, team_id uuid, assignee_id uuid, unattended boolean not null,
    n bigint not null
"""

_STATEMENTS = (
    """
    create index conversations_waiting on conversations (account_id, waiting_since, id) where waiting_since is not null
    """,
    """
    create index conversations_priority on conversations (
        account_id,
        (cast(case when priority = 'urgent' then 4 when priority = 'high' then 3 when priority = 'medium' then 2 else 1 end
            as bigint)) desc,
        last_activity_at desc, id desc
    ) where priority is not null
    """,
    "create index messages_mentions on messages using gin (mentions) where mentions <> '{}'",
    f"""
    create table conversation_counts (
        {_COLUMNS},
        unique nulls not distinct (account_id, inbox_id, team_id, assignee_id, unattended)
    ) with (fillfactor = 70)
    """,
    "comment on table conversation_counts is 'unresolved conversations by group; exact together with the changes'",
    f"create table conversation_count_changes (seq bigint generated always as identity, {_COLUMNS})",
    "comment on table conversation_count_changes is 'not folded into the counts yet: appended, so that nobody waits'",
    "create index conversation_count_changes_account on conversation_count_changes (account_id)",
    # One at a time and account folds; who comes second leaves it, and waits for nobody.
    f"""
    create function fold_conversation_counts(account uuid) returns void language plpgsql as $$
    begin
        if not pg_try_advisory_xact_lock(hashtextextended('conversation_counts:' || account, 0)) then
            return;
        end if;
        with gone as (
            delete from conversation_count_changes where account_id = account returning {_GROUP}, unattended, n
        )
        insert into conversation_counts as c ({_GROUP}, unattended, n)
        select {_GROUP}, unattended, sum(n) from gone group by {_GROUP}, unattended having sum(n) <> 0
        on conflict ({_GROUP}, unattended) do update set n = c.n + excluded.n;
        delete from conversation_counts where account_id = account and n = 0;
    end
    $$
    """,
    f"""
    create function count_conversations() returns trigger language plpgsql as $$
    declare
        due uuid;
    begin
        with changed as (
            {{changed}}
        ), written as (
            insert into conversation_count_changes ({_GROUP}, unattended, n)
            select {_GROUP}, unattended, sum(n) from changed group by {_GROUP}, unattended having sum(n) <> 0
            returning account_id, seq
        )
        select account_id into due from written where seq % 128 = 0 limit 1;
        if due is not null then
            perform fold_conversation_counts(due);
        end if;
        return null;
    end
    $$
    """,
)


def _changed(rows: str, n: int) -> str:
    return f"select {_GROUP}, {_UNATTENDED} as unattended, {n} as n from {rows} where status <> 'resolved'"


_TRIGGERS = {
    "insert": ("new table as new_rows", _changed("new_rows", 1)),
    "update": (
        "new table as new_rows old table as old_rows",
        f"{_changed('new_rows', 1)} union all {_changed('old_rows', -1)}",
    ),
    "delete": ("old table as old_rows", _changed("old_rows", -1)),
}

_VIEWS = (
    """
    create table views (
        id uuid primary key,
        account_id uuid not null,
        agent_id uuid,
        shared boolean not null,
        name text not null,
        filters jsonb not null,
        sort text not null,
        version bigint not null,
        created_at timestamptz not null,
        updated_at timestamptz not null,
        check (shared or agent_id is not null)
    )
    """,
    "comment on column views.agent_id is 'who made it; the only one who sees it, unless it is shared'",
    "create index views_of on views (account_id, agent_id, shared)",
)


def upgrade() -> None:
    *plain, function = _STATEMENTS
    for statement in plain:
        op.execute(statement)
    for act, (transition, changed) in _TRIGGERS.items():
        op.execute(
            function.replace("{changed}", changed).replace("count_conversations()", f"count_conversations_{act}()")
        )
        op.execute(
            f"create trigger count_{act} after {act} on conversations referencing {transition}"
            f" for each statement execute function count_conversations_{act}()"
        )
    op.execute(
        f"insert into conversation_counts ({_GROUP}, unattended, n)"
        f" select {_GROUP}, unattended, count(*) from ({_changed('conversations', 1)}) c group by {_GROUP}, unattended"
    )
    for statement in _VIEWS:
        op.execute(statement)
