"""The tables that are queried dynamically: the access rule becomes part of the statement."""

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, MetaData, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
_ID = Uuid(as_uuid=False)

conversations_held = Table(
    "conversations_held",
    metadata,
    Column("conversation_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("inbox_id", _ID, nullable=False),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("team_id", _ID),
    Column("assignee_id", _ID),
    Column("queued_at", DateTime(timezone=True)),
    Column("rank", SmallInteger, nullable=False),
    Column("since", DateTime(timezone=True)),
    Column("reason", JSONB),
    Column("needs", JSONB, nullable=False),
    Column("offered_to", _ID),
    Column("offered_at", DateTime(timezone=True)),
    Column("offered_until", DateTime(timezone=True)),
)

conversation_facts = Table(
    "conversation_facts",
    metadata,
    Column("conversation_id", _ID, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("participant_ids", ARRAY(_ID), nullable=False),
    Column("owner_id", _ID),
)
