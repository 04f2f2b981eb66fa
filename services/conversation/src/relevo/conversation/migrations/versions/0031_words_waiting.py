"""Words that wait to be sorted into their index are few: every look into a stretch of time reads all of them."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter index search_words_words set (gin_pending_list_limit = 128)")
