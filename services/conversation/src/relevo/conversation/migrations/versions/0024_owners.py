"""The owners of contacts: an agent or a team."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table contacts
            add column owner_id uuid,
            add column owner_team_id uuid,
            add constraint contacts_owner check (owner_id is null or owner_team_id is null)
    """)
    op.execute("create index contacts_of_owner on contacts (account_id, owner_id, id) where owner_id is not null")
    op.execute(
        "create index contacts_of_owner_team on contacts (account_id, owner_team_id, id) where owner_team_id is not null"
    )
