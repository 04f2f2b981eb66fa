"""What the rules of a policy look at, and by which of them a conversation goes."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table conversations_held
            add column facts jsonb not null default '{}',
            add column rule text not null default ''
    """)
    op.execute(
        "comment on column conversations_held.facts is 'labels, languages, owner and hours, by the names of conditions'"
    )
    op.execute("comment on column conversations_held.rule is 'the rule of the policy that it goes by; empty: none'")
    op.execute("comment on column conversations_held.queue_key is 'stands for team_id, passed and rule in the index'")
    op.execute("alter table decisions add column rule text not null default ''")
