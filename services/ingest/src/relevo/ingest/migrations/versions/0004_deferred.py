"""What came over the bus and waits, so that an account that floods holds up nobody else."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table deferred (
            id bigint generated always as identity primary key,
            p smallint not null,
            seq bigint not null,
            account_id text not null,
            subject text not null,
            headers text not null,
            body bytea not null,
            at timestamptz not null
        )
        """
    )
    op.execute("create index deferred_of_account on deferred (account_id, id)")
    op.execute("comment on table deferred is 'inbound messages that wait their turn; id is their order within p'")
    op.execute("comment on column deferred.account_id is 'as in the subject: may name no account at all'")
    op.execute("comment on column deferred.at is 'when the stream stored it'")
