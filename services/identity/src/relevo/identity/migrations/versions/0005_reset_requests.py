"""Requests for another password, which wait for the worker that looks who is meant."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    create table reset_requests (
        id bigint generated always as identity primary key,
        email text not null,
        ip text not null,
        user_agent text not null,
        at timestamptz not null default now()
    )
    """,
    (
        "comment on table reset_requests is "
        "'for moments: whoever asked has their answer before anybody looked whether the address is known'"
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
