"""What inboxes answer while nobody is there, who is, and when a conversation had that answer."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table offline_answers (
            account_id uuid not null,
            inbox_id uuid primary key,
            enabled boolean not null,
            holder boolean not null,
            text_es text not null,
            text_en text not null,
            version bigint not null,
            updated_at timestamptz not null,
            updated_by text not null
        )
    """)
    op.execute("create index offline_answers_enabled on offline_answers (account_id) where enabled")
    op.execute("comment on column offline_answers.text_es is 'empty: the standard text'")
    op.execute("""
        create table offline_answered (
            account_id uuid not null,
            conversation_id uuid not null,
            answered_at timestamptz not null,
            primary key (account_id, conversation_id)
        )
    """)
    op.execute("""
        create table agents_there (
            account_id uuid not null,
            agent_id uuid primary key,
            there boolean not null,
            gone_since timestamptz,
            back_at timestamptz,
            sequence bigint not null
        )
    """)
    op.execute("comment on table agents_there is 'projection of presence: who answers customers at the moment'")
    op.execute("comment on column agents_there.gone_since is 'when they ceased to be there; null: they are'")
