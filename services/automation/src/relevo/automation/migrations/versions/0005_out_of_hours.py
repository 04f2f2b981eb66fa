"""What inboxes answer out of hours, and until when a conversation has had its answer."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table out_of_hours (
            account_id uuid not null,
            inbox_id uuid primary key,
            enabled boolean not null,
            text_es text not null,
            text_en text not null,
            version bigint not null,
            updated_at timestamptz not null,
            updated_by text not null
        )
    """)
    op.execute("create index out_of_hours_enabled on out_of_hours (account_id) where enabled")
    op.execute("comment on column out_of_hours.text_es is 'empty: the standard text'")
    op.execute("""
        create table out_of_hours_answers (
            account_id uuid not null,
            conversation_id uuid not null,
            opens_at timestamptz not null,
            answered_at timestamptz not null,
            primary key (account_id, conversation_id)
        )
    """)
    op.execute(
        "comment on column out_of_hours_answers.opens_at is 'what was said: until then there is no other answer'"
    )
    op.execute("comment on column out_of_hours_answers.answered_at is 'when the customer wrote'")
