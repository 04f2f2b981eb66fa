"""Facts that stand in the place of others: a rating that its customer changed."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "alter table facts add column replaces uuid",
    "alter table facts add column replaced_value numeric(18, 6)",
    "alter table facts add column replaced boolean not null default false",
    "comment on column facts.replaces is 'the fact, of the same moment, in whose place this one stands'",
    "comment on column facts.replaced is 'another fact stands in the place of this one: it counts no more'",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
