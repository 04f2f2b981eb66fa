"""Status now, devices, and the whole history."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_chassis_tables(op)
    op.execute("""
        create table agent_status (
            agent_id uuid primary key,
            account_id uuid not null,
            state text not null check (state in ('available', 'busy', 'away', 'offline')),
            cause text not null,
            actor text not null,
            since timestamptz not null,
            chosen text check (chosen in ('available', 'busy', 'away', 'offline')),
            chosen_until timestamptz,
            chosen_actor text,
            chosen_cause text,
            gone text not null default 'initial',
            signed_out_at timestamptz,
            removed boolean not null default false,
            sequence bigint not null default 0,
            check_at timestamptz
        )
    """)
    op.execute(
        "comment on column agent_status.check_at is 'when the timer that watches this agent rings, if one is set'"
    )
    op.execute("create index agent_status_account on agent_status (account_id)")
    op.execute("""
        create table devices (
            agent_id uuid not null references agent_status (agent_id),
            device_id text not null,
            account_id uuid not null,
            expires_at timestamptz not null,
            closing boolean not null default false,
            primary key (agent_id, device_id)
        )
    """)
    # The intervals of an agent tile time by construction: an ended one must be followed by one that begins where it
    # ends, no two begin or end together, all are longer than zero, and exactly one is open.
    op.execute("""
        create table status_history (
            agent_id uuid not null,
            from_at timestamptz not null,
            to_at timestamptz,
            account_id uuid not null,
            state text not null check (state in ('available', 'busy', 'away', 'offline')),
            cause text not null,
            actor text not null,
            primary key (agent_id, from_at),
            check (to_at > from_at),
            constraint status_history_end unique (agent_id, to_at),
            constraint status_history_next foreign key (agent_id, to_at)
                references status_history (agent_id, from_at) deferrable initially deferred
        )
    """)
    op.execute("create unique index status_history_open on status_history (agent_id) where to_at is null")
    op.execute("create index status_history_period on status_history (account_id, from_at)")
