"""What conversations take of their holder's capacity, in hundredths of a unit; since when they wait for their customer."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Told as what they take beyond one unit each: right also where the last release, which knows of none, counts loads.
    op.execute("alter table agents add column extra integer not null default 0")
    op.execute("alter table agents_then add column extra integer not null default 0")
    op.execute("comment on column agents.extra is 'hundredths of a unit that the load takes beyond one unit each'")
    op.execute("""
        alter table conversations_held
            add column weight integer not null default 100,
            add column answered_at timestamptz
    """)
    op.execute("comment on column conversations_held.weight is 'hundredths of a unit that it takes of its holder'")
    op.execute("comment on column conversations_held.answered_at is 'since when its customer is waited for'")
