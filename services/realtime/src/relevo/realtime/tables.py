"""Tables that queries are composed over."""

from sqlalchemy import ARRAY, BigInteger, Column, MetaData, Table, Uuid

metadata = MetaData()

conversation_facts = Table(
    "conversation_facts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("inbox_id", Uuid, nullable=False),
    Column("team_id", Uuid),
    Column("assignee_id", Uuid),
    Column("participant_ids", ARRAY(Uuid), nullable=False),
    Column("owner_id", Uuid),
    Column("sequence", BigInteger, nullable=False),
)
