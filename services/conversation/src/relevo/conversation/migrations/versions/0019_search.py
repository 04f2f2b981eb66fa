"""What search finds messages, subjects and contacts by."""

from alembic import op

from relevo.chassis.migrations import every_row

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Lower case, no accents, words apart by one space; ñ is n here: exact spelling is a matter of rank.
    r"""
    create function search_plain(said text) returns text language sql stable parallel safe as $$
        select trim(regexp_replace(lower(unaccent(said)), '[^[:alnum:]]+', ' ', 'g'))
    $$
    """,
    # Spanish words in -ion carry an accent that was taken off, and that the stemmer looks for.
    """
    create function search_stems_es(plain text) returns text[] language sql immutable parallel safe as $$
        select tsvector_to_array(to_tsvector('pg_catalog.spanish', replace(plain || ' ', 'ion ', 'ión ')))
    $$
    """,
    """
    create function search_stems_en(plain text) returns text[] language sql immutable parallel safe as $$
        select tsvector_to_array(to_tsvector('pg_catalog.english', plain))
    $$
    """,
    # Three days: so that a word of every tenth message means some thousand rows in an account of ten million.
    """
    create function search_bucket(at timestamptz) returns integer language sql immutable parallel safe as $$
        select cast(floor(extract(epoch from at) / 259200) as integer)
    $$
    """,
    # The account's part need not be unique: it keeps others' postings away, rows are compared by account_id.
    """
    create function search_prefix(account uuid, bucket integer) returns text language sql immutable parallel safe as $$
        select right(cast(account as text), 4) || lpad(to_hex(bucket), 4, '0')
    $$
    """,
    r"""
    create function search_vector(account uuid, at timestamptz, said text, author text) returns tsvector
    language plpgsql stable parallel safe as $$
    declare
        -- What is longer than this is no prose; and a vector has an upper limit.
        plain text := search_plain(left(said, 20000));
        prefix text := search_prefix(account, search_bucket(at));
        words text[];
    begin
        if plain ~ '[^ ]{100}' then
            plain := regexp_replace(plain, '([^ ]{100})[^ ]+', '\1', 'g');
        end if;
        words := string_to_array(plain, ' ')
            || tsvector_to_array(to_tsvector('pg_catalog.spanish', replace(plain || ' ', 'ion ', 'ión ')))
            || tsvector_to_array(to_tsvector('pg_catalog.english', plain))
            || author;
        return array_to_tsvector(string_to_array(prefix || array_to_string(words, ' ' || prefix), ' '));
    end
    $$
    """,
    """
    create function search_author(kind text, author text) returns text language sql immutable parallel safe as $$
        select case when kind = 'incoming' then '@customer' else '@' || right(author, 12) end
    $$
    """,
    """
    create table search_words (
        id uuid primary key,
        account_id uuid not null,
        conversation_id uuid not null,
        kind text not null check (kind in ('incoming', 'outgoing', 'note', 'subject')),
        at timestamptz not null,
        words tsvector not null
    )
    """,
    "comment on column search_words.id is 'of the message, or of the conversation whose subject it is'",
    "comment on column search_words.words is 'words, Spanish and English stems, author; each after search_prefix'",
    "create index search_words_words on search_words using gin (words)",
    "create index search_words_conversation on search_words (conversation_id)",
    """
    create table search_buckets (
        account_id uuid not null,
        bucket integer not null,
        primary key (account_id, bucket)
    )
    """,
    "comment on table search_buckets is 'the stretches of time in which an account has words'",
    """
    create function search_know_bucket(account uuid, at timestamptz) returns void language sql as $$
        insert into search_buckets (account_id, bucket)
        select account, search_bucket(at)
        where not exists (select 1 from search_buckets where account_id = account and bucket = search_bucket(at))
        on conflict do nothing
    $$
    """,
    """
    create function search_add_messages() returns trigger language plpgsql as $$
    begin
        insert into search_words (id, account_id, conversation_id, kind, at, words)
        select id, account_id, conversation_id, kind, created_at,
            search_vector(account_id, created_at, text, search_author(kind, author))
        from new_rows where conversation_id is not null and kind <> 'activity';
        insert into search_buckets (account_id, bucket)
        select account_id, bucket from (select distinct account_id, search_bucket(created_at) as bucket from new_rows) n
        where not exists (select 1 from search_buckets b where b.account_id = n.account_id and b.bucket = n.bucket)
        order by account_id, bucket
        on conflict do nothing;
        return null;
    end
    $$
    """,
    """
    create trigger search_added after insert on messages referencing new table as new_rows
    for each statement execute function search_add_messages()
    """,
    """
    create function search_change_message() returns trigger language plpgsql as $$
    begin
        update search_words set conversation_id = new.conversation_id,
            words = search_vector(new.account_id, new.created_at, new.text, search_author(new.kind, new.author))
        where id = new.id and account_id = new.account_id;
        return null;
    end
    $$
    """,
    """
    create trigger search_changed after update on messages for each row
    when (old.text is distinct from new.text or old.conversation_id is distinct from new.conversation_id)
    execute function search_change_message()
    """,
    """
    create function search_remove() returns trigger language plpgsql as $$
    begin
        delete from search_words where id = old.id and account_id = old.account_id;
        return null;
    end
    $$
    """,
    "create trigger search_removed after delete on messages for each row execute function search_remove()",
    "create trigger search_removed after delete on conversations for each row execute function search_remove()",
    """
    create function search_set_subject() returns trigger language plpgsql as $$
    begin
        insert into search_words (id, account_id, conversation_id, kind, at, words)
        values (new.id, new.account_id, new.id, 'subject', new.created_at,
            search_vector(new.account_id, new.created_at, new.subject, '@subject'))
        on conflict (id) do update set words = excluded.words;
        perform search_know_bucket(new.account_id, new.created_at);
        return null;
    end
    $$
    """,
    """
    create trigger search_subject_added after insert on conversations for each row
    when (new.subject <> '') execute function search_set_subject()
    """,
    """
    create trigger search_subject_changed after update on conversations for each row
    when (old.subject is distinct from new.subject) execute function search_set_subject()
    """,
    # unaccent itself is not immutable only since its dictionary could be another one.
    """
    create function search_fold(said text) returns text language sql immutable parallel safe as $$
        select lower(public.unaccent('public.unaccent', said))
    $$
    """,
    """
    alter table contacts add column plain text not null generated always as (
        search_fold(name || ' ' || coalesce(email, '') || ' ' || coalesce(phone, '') || ' ' || coalesce(identifier, '')
            || ' ' || company)
    ) stored
    """,
    "comment on column contacts.plain is 'what fragments are looked for in'",
    "create index contacts_plain on contacts using gin (plain gin_trgm_ops)",
)

_FILLED = (
    """
    insert into search_words (id, account_id, conversation_id, kind, at, words)
    select id, account_id, conversation_id, kind, created_at,
        search_vector(account_id, created_at, text, search_author(kind, author))
    from messages where conversation_id is not null and kind <> 'activity'
    """,
    """
    insert into search_words (id, account_id, conversation_id, kind, at, words)
    select id, account_id, id, 'subject', created_at, search_vector(account_id, created_at, subject, '@subject')
    from conversations where subject <> ''
    """,
    "insert into search_buckets select distinct account_id, search_bucket(at) from search_words",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    with every_row(op, "messages", "conversations"):
        for statement in _FILLED:
            op.execute(statement)
