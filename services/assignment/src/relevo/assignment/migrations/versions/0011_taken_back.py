"""Policies as a whole; since when somebody is gone, has a conversation, or waits for an answer; who is passed over."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table pools add column policy jsonb, add column watches_answers boolean not null default false")
    with every_row(op, "pools", "agents"):
        op.execute("""
            update pools set policy = jsonb_build_object('strategy', strategy, 'default_capacity', default_capacity,
                'busy_as_fallback', busy_as_fallback, 'out_of_shift', out_of_shift, 'owner_first', owner_first,
                'owner_absent', owner_absent, 'version', policy_version)
        """)
        op.execute("alter table agents add column left_at timestamptz, add column off_shift_at timestamptz")
        op.execute("""
            update agents set left_at = case when state in ('offline', 'away') then state_since end,
                off_shift_at = case when in_shift is false then state_since end
        """)
    op.execute("""
        alter table pools
            drop column strategy, drop column default_capacity, drop column busy_as_fallback, drop column out_of_shift,
            drop column owner_first, drop column owner_absent, drop column policy_version,
            alter column policy set not null, alter column policy set default '{"default_capacity": 10}'
    """)
    op.execute("comment on column pools.watches_answers is 'the policy looks at since when customers wait'")
    op.execute("""
        alter table conversations_held
            add column held_since timestamptz,
            add column customer_since timestamptz,
            add column passed uuid[] not null default '{}',
            add column queue_key uuid not null default '00000000-0000-0000-0000-000000000000'
    """)
    op.execute("comment on column conversations_held.queue_key is 'stands for team_id and passed in the index'")
    op.execute("comment on column conversations_held.passed is 'who had it and let its customer wait'")
    op.execute("alter table decisions add column passed uuid[] not null default '{}'")
    with every_row(op, "conversations_held"):
        op.execute("update conversations_held set queue_key = team_id where team_id is not null")
    op.execute("drop index conversations_held_queue")
    op.execute("""
        create index conversations_held_queue on conversations_held
            (account_id, inbox_id, queue_key, (-rank), queued_at, conversation_id) where state = 'queued'
    """)
