"""Pools and their journals, agents, teams, who holds what, and every decision."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table pools (
            account_id uuid primary key,
            strategy text not null default 'round_robin' check (strategy in ('round_robin', 'least_loaded')),
            default_capacity integer not null default 10 check (default_capacity >= 0),
            busy_as_fallback boolean not null default false,
            policy_version bigint not null default 1,
            turn bigint not null default 0,
            runs bigint not null default 0
        )
    """)
    op.execute("comment on table pools is 'whoever holds this row''s lock is the matcher of the account'")
    op.execute("comment on column pools.turn is 'counts automatic assignments: the cursor of round robin'")
    op.execute("comment on column pools.runs is 'counts runs of the matcher: agents and teams change in no other way'")
    op.execute("""
        create table journal (
            id bigint generated always as identity primary key,
            account_id uuid not null,
            kind text not null,
            payload jsonb not null,
            cause jsonb,
            created_at timestamptz not null default clock_timestamp(),
            waiting_for uuid,
            done_at timestamptz,
            run bigint,
            error text
        ) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05)
    """)
    op.execute("comment on column journal.id is 'commits in another order than it counts: never read beyond a cursor'")
    op.execute("comment on column journal.run is 'the run that took it: the order of inputs is (run, id)'")
    op.execute("comment on column journal.waiting_for is 'the conversation it needs, not known here yet'")
    op.execute("""
        create index journal_pending on journal (account_id, id) where done_at is null and waiting_for is null
    """)
    op.execute("create index journal_waiting on journal (waiting_for) where waiting_for is not null")
    op.execute("""
        create table agents (
            agent_id uuid primary key,
            account_id uuid not null,
            name text not null,
            active boolean not null,
            state text not null check (state in ('available', 'busy', 'away', 'offline')),
            state_since timestamptz,
            capacity integer check (capacity >= 0),
            load integer not null check (load >= 0),
            turn bigint not null,
            last_assigned_at timestamptz,
            team_ids uuid[] not null,
            inbox_ids uuid[],
            presence_sequence bigint not null,
            directory_sequence bigint not null
        ) with (fillfactor = 70)
    """)
    op.execute("comment on column agents.load is 'open conversations held'")
    op.execute("comment on column agents.capacity is 'null: the policy''s default'")
    op.execute("comment on column agents.inbox_ids is 'null: every inbox'")
    op.execute("create index agents_account on agents (account_id)")
    op.execute("""
        create table teams (
            team_id uuid primary key,
            account_id uuid not null,
            name text not null,
            auto_assign boolean not null,
            deleted boolean not null,
            sequence bigint not null
        )
    """)
    op.execute("create index teams_account on teams (account_id)")
    op.execute("""
        create table conversations_held (
            conversation_id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            channel text not null,
            state text not null check (state in ('assigned', 'queued', 'unassigned', 'closed')),
            version bigint not null,
            team_id uuid,
            assignee_id uuid,
            opened_at timestamptz not null,
            queued_at timestamptz,
            rank smallint not null,
            sequence bigint not null,
            by_hand boolean not null,
            reason jsonb,
            decision_id uuid,
            check ((state = 'queued') = (queued_at is not null)),
            check (state <> 'assigned' or assignee_id is not null),
            check (state not in ('queued', 'unassigned') or assignee_id is null)
        )
    """)
    op.execute("comment on column conversations_held.rank is '3 urgent, 2 high, 1 medium or none, 0 low'")
    op.execute("comment on column conversations_held.sequence is 'of the last event of the conversation that counted'")
    op.execute("comment on column conversations_held.by_hand is 'left without an agent on purpose'")
    op.execute("""
        create index conversations_held_queue on conversations_held
            (account_id, inbox_id, coalesce(team_id, '00000000-0000-0000-0000-000000000000'::uuid), (-rank), queued_at,
             conversation_id) where state = 'queued'
    """)
    op.execute("""
        create index conversations_held_places on conversations_held
            (account_id, (-rank), queued_at, conversation_id) where state = 'queued'
    """)
    op.execute("""
        create index conversations_held_holder on conversations_held (assignee_id) where state = 'assigned'
    """)
    op.execute("""
        create index conversations_held_team on conversations_held (team_id)
            where team_id is not null and state <> 'closed'
    """)
    op.execute("""
        create table conversation_facts (
            conversation_id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            number bigint not null,
            participant_ids uuid[] not null,
            owner_id uuid,
            sequence bigint not null
        )
    """)
    op.execute("""
        comment on table conversation_facts is
        'what the access rule needs and conversation tells; team and assignee are in conversations_held, our own'
    """)
    op.execute("create index conversation_facts_participants on conversation_facts using gin (participant_ids)")
    op.execute("""
        create table decisions (
            id uuid primary key,
            account_id uuid not null,
            conversation_id uuid not null,
            version bigint not null,
            journal_id bigint not null,
            run bigint not null,
            policy_version bigint not null,
            kind text not null check (kind in ('assigned', 'queued', 'unassigned')),
            mode text not null,
            actor text not null,
            assignee_id uuid,
            team_id uuid,
            from_assignee_id uuid,
            from_team_id uuid,
            reason jsonb not null,
            candidates integer not null,
            excluded jsonb not null,
            runners_up uuid[] not null,
            queued_at timestamptz,
            waited_seconds double precision,
            created_at timestamptz not null,
            constraint decisions_version unique (conversation_id, version)
        )
    """)
    op.execute("create index decisions_account on decisions (account_id, created_at)")
