"""Conversations that go to the owner of their contact, or wait for them."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table pools
            add column owner_first boolean not null default true,
            add column owner_absent text not null default 'anyone' check (owner_absent in ('anyone', 'wait'))
    """)
    op.execute("alter table conversations_held add column kept_for uuid")
    op.execute("create index conversations_held_kept on conversations_held (kept_for) where kept_for is not null")
