"""Contacts, conversations, messages."""

from alembic import op

from relevo.chassis.migrations import create_chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table contacts (
        id uuid primary key,
        account_id uuid not null,
        name text not null default '',
        email text,
        phone text,
        language text,
        labels text[] not null default '{}',
        blocked boolean not null default false,
        sequence bigint not null,
        created_at timestamptz not null
    )
    """,
    "comment on column contacts.email is 'in normal form: kernel.identity.normal_email'",
    "comment on column contacts.phone is 'E.164'",
    "comment on column contacts.blocked is 'their messages are kept, open nothing, notify nobody'",
    "comment on column contacts.sequence is 'number of the contact''s last event'",
    "create unique index contacts_email on contacts (account_id, email) where email is not null",
    "create unique index contacts_phone on contacts (account_id, phone) where phone is not null",
    "create index contacts_newest on contacts (account_id, created_at desc, id desc)",
    """
    create table contact_channels (
        account_id uuid not null,
        inbox_id uuid not null,
        source_id text not null,
        recipient_key text not null,
        contact_id uuid not null references contacts (id),
        created_at timestamptz not null,
        primary key (inbox_id, source_id)
    )
    """,
    "comment on column contact_channels.source_id is 'the channel''s own identifier of the person'",
    "comment on column contact_channels.recipient_key is 'the person''s token in bus subjects'",
    "create index contact_channels_contact on contact_channels (account_id, contact_id)",
    """
    create table conversations (
        id uuid primary key,
        account_id uuid not null,
        number bigint not null,
        inbox_id uuid not null,
        channel text not null,
        contact_id uuid not null references contacts (id),
        source_id text not null,
        recipient_key text not null,
        exclusive boolean not null,
        status text not null check (status in ('open', 'pending', 'snoozed', 'resolved')),
        stage text not null check (stage in ('new', 'in_progress', 'closed', 'archived')),
        archived boolean not null,
        priority text check (priority in ('low', 'medium', 'high', 'urgent')),
        subject text not null,
        language text,
        labels text[] not null,
        assignee_id uuid,
        team_id uuid,
        participant_ids uuid[] not null,
        owner_id uuid,
        assignment_version bigint not null,
        cycle integer not null,
        created_at timestamptz not null,
        opened_at timestamptz not null,
        resolved_at timestamptz,
        first_reply_at timestamptz,
        waiting_since timestamptz,
        last_activity_at timestamptz not null,
        message_count integer not null,
        sequence bigint not null,
        check (not archived or status = 'resolved'),
        check ((status = 'resolved') = (resolved_at is not null))
    )
    """,
    "comment on column conversations.number is 'what people call it; unique within the account, may have gaps'",
    "comment on column conversations.exclusive is 'opened under the inbox policy always_one'",
    "comment on column conversations.stage is 'a function of status, archived and first_reply_at; domain.stage_of'",
    "comment on column conversations.sequence is 'number of the conversation''s last event; no gaps'",
    "create unique index conversations_number on conversations (account_id, number)",
    # The guard of the policy always_one, whatever the door that opens or reopens.
    """
    create unique index conversations_one_unresolved on conversations (inbox_id, source_id)
        where exclusive and status <> 'resolved'
    """,
    "create index conversations_of_channel on conversations (inbox_id, source_id, opened_at)",
    "create index conversations_of_contact on conversations (account_id, contact_id)",
    # Every list is newest activity first. Unresolved ones are few and asked for most: they have an index of their own.
    "create index conversations_newest on conversations (account_id, archived, last_activity_at desc, id desc)",
    """
    create index conversations_unresolved on conversations (account_id, last_activity_at desc, id desc)
        where status <> 'resolved'
    """,
    """
    create index conversations_of_assignee on conversations (account_id, assignee_id, last_activity_at desc, id desc)
        where assignee_id is not null
    """,
    """
    create index conversations_of_team on conversations (account_id, team_id, last_activity_at desc, id desc)
        where team_id is not null
    """,
    "create index conversations_of_inbox on conversations (account_id, inbox_id, last_activity_at desc, id desc)",
    "create index conversations_of_owner on conversations (account_id, owner_id) where owner_id is not null",
    "create index conversations_labels on conversations using gin (labels)",
    "create index conversations_participants on conversations using gin (participant_ids)",
    # No foreign key to conversations: its row is locked by whoever writes a message, and the check costs every message.
    """
    create table messages (
        id uuid primary key,
        account_id uuid not null,
        conversation_id uuid,
        withheld_from uuid,
        sequence bigint,
        kind text not null check (kind in ('incoming', 'outgoing', 'note', 'activity')),
        text text not null,
        author text not null,
        author_name text not null,
        external_id text,
        reply_to text,
        attachments jsonb not null,
        mentions text[] not null,
        status text not null check (status in ('received', 'queued', 'sent', 'delivered', 'read', 'failed')),
        error text,
        occurred_at timestamptz not null,
        created_at timestamptz not null,
        check ((conversation_id is null) = (withheld_from is not null)),
        check ((conversation_id is null) = (sequence is null))
    )
    """,
    "comment on column messages.withheld_from is 'the blocked contact who wrote; such a message is in no conversation'",
    "comment on column messages.sequence is 'number of the conversation event that brought it: the order of record'",
    "comment on column messages.occurred_at is 'the provider''s time, never later than created_at'",
    "create unique index messages_order on messages (conversation_id, sequence)",
    "create index messages_external on messages (account_id, external_id) where external_id is not null",
    "create index messages_withheld on messages (account_id, withheld_from) where withheld_from is not null",
    """
    create table handled_commands (
        account_id uuid not null,
        id uuid not null,
        handled_at timestamptz not null default now(),
        primary key (account_id, id)
    )
    """,
    "comment on table handled_commands is 'commands that took effect, so that one sent twice acts once'",
    # Conversation numbers come from one sequence an account: no lock is held until the commit, so that replicas do not
    # wait for each other, and the price is a gap where a transaction rolls back.
    "create schema numbers",
    """
    create function next_conversation_numbers(account uuid, wanted integer) returns setof bigint
    language plpgsql as $$
    declare
        name text := format('numbers.%I', account::text);
    begin
        if to_regclass(name) is null then
            perform pg_advisory_xact_lock(hashtextextended(name, 0));
            execute format('create sequence if not exists %s', name);
        end if;
        return query select nextval(name::regclass) from generate_series(1, wanted);
    end
    $$
    """,
)


def upgrade() -> None:
    create_chassis_tables(op)
    for statement in _STATEMENTS:
        op.execute(statement)
