"""Bots have credentials as adapters do: an inbox, and a key for the HTTP door."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # They were made without names of ours.
    op.execute("""
        do $$
        declare one record;
        begin
            for one in
                select conname from pg_constraint
                where conrelid = cast('bus_credentials' as regclass) and contype = 'c'
                  and pg_get_constraintdef(oid) like '%kind%'
            loop
                execute format('alter table bus_credentials drop constraint %I', one.conname);
            end loop;
        end $$
    """)
    op.execute("""
        alter table bus_credentials
            add constraint bus_credentials_kind check (kind in ('adapter', 'metrics', 'bot')),
            add constraint bus_credentials_inbox check ((inbox_id is not null) = (kind in ('adapter', 'bot'))),
            add constraint bus_credentials_key check ((sha256 is not null) = (kind in ('adapter', 'bot')))
    """)
