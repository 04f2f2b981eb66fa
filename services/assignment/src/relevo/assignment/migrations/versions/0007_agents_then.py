"""What agents were at every decision, so that each can say why it passed somebody over."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table agents_then (
            agent_id uuid not null,
            account_id uuid not null,
            run bigint not null,
            step integer not null,
            active boolean not null,
            state text not null,
            in_shift boolean,
            capacity integer,
            load integer not null,
            team_ids uuid[] not null,
            inbox_ids uuid[],
            primary key (agent_id, run, step)
        )
    """)
    op.execute("comment on table agents_then is 'what an agent was before the decision (run, step), from here on'")
    op.execute("alter table decisions add column step integer")
    op.execute("comment on column decisions.step is 'counts the decisions of a run; null: made before agents_then was'")
    op.execute("create index journal_policies on journal (account_id) where kind = 'policy'")
    with every_row(op, "agents", "pools"):
        op.execute("""
            insert into agents_then (agent_id, account_id, run, step, active, state, in_shift, capacity, load, team_ids,
                inbox_ids)
            select agent_id, account_id, runs, 2147483647, active, state, in_shift, capacity, load, team_ids, inbox_ids
            from agents join pools using (account_id)
        """)
