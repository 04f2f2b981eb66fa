"""Rules that come when nobody is available."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table rules add column absence jsonb, add column absence_asked_since timestamptz")
    op.execute(
        "alter table rules add constraint rules_absence check ((absence is not null) = (trigger = 'nobody_available'))"
    )
    op.execute("comment on column rules.absence is 'whose, and for how long, if it comes when nobody is available'")
    op.execute(
        "comment on column rules.absence_asked_since is 'since when nobody was available the last time it came: once until somebody was'"
    )
