"""Whose a conversation is, and who had it last."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table conversations_held
            add column contact_id uuid,
            add column had_by uuid,
            add column had_at timestamptz
    """)
    op.execute(
        "comment on column conversations_held.contact_id is 'whose it is; null: nobody has said since that is kept'"
    )
    op.execute("comment on column conversations_held.had_by is 'who got it last, whether they have it still or not'")
    op.execute(
        "comment on column conversations_held.had_at is 'when they got it; or, once it has left them, when it did'"
    )
    op.execute("""
        create index conversations_held_contact on conversations_held
            (account_id, contact_id, had_at desc, conversation_id desc) where had_at is not null
    """)
    # Another policy looks at all that is open.
    op.execute("""
        create index conversations_held_lying on conversations_held (account_id) where state = 'unassigned'
    """)
