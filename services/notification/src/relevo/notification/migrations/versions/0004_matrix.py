"""Kinds by channels, account defaults, folding, snoozing, e-mail that waits, access facts, bounced addresses, web push."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table notifications
            add column folded_into uuid, add column folds integer not null default 1, add column snoozed_until timestamptz
    """)
    op.execute("comment on column notifications.folded_into is 'a newer one of the same conversation, shown instead'")
    op.execute("comment on column notifications.folds is 'how many unread ones this one stands for, itself included'")
    op.execute("drop index notifications_list")
    op.execute("""
        create index notifications_list on notifications (agent_id, (read_at is not null), id desc)
        where folded_into is null
    """)
    op.execute("""
        create index notifications_open on notifications (conversation_id, agent_id)
        where read_at is null and folded_into is null
    """)
    op.execute("create index notifications_age on notifications (created_at)")
    op.execute("alter table preferences add column push boolean not null default true")
    op.execute("""
        create table account_preferences (
            account_id uuid not null,
            kind text not null,
            in_app boolean not null,
            email boolean not null,
            push boolean not null,
            primary key (account_id, kind)
        )
    """)
    op.execute("""
        alter table mails
            add column agent_id uuid, add column conversation_id uuid, add column notification_id uuid
    """)
    op.execute("create index mails_open on mails (agent_id, conversation_id) where state = 'waiting'")
    op.execute("create index mails_age on mails (created_at)")
    op.execute("comment on column mails.notification_id is 'left out when this one is read before it is sent'")
    op.execute("""
        create table bounces (
            account_id uuid not null,
            address text not null,
            at timestamptz not null,
            reason text not null,
            primary key (account_id, address)
        )
    """)
    op.execute(
        "comment on table bounces is 'addresses that a mail server refused for good; nothing optional is sent there'"
    )
    op.execute("""
        create table conversation_facts (
            id uuid primary key,
            account_id uuid not null,
            inbox_id uuid not null,
            team_id uuid,
            assignee_id uuid,
            participant_ids uuid[] not null default '{}',
            owner_id uuid,
            sequence bigint not null
        )
    """)
    op.execute("comment on table conversation_facts is 'projection of EVT_CONVERSATION: what the access rule reads'")
    op.execute("create index conversation_facts_account on conversation_facts (account_id)")
