"""Files that go with e-mails."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table mails add column file_name text, add column file text")
    op.execute("comment on column mails.file is 'a PDF, as base64; gone once it was sent'")
