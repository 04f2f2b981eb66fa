"""Tables that queries are composed over."""

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, Uuid

metadata = MetaData()

notifications = Table(
    "notifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("agent_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("conversation_id", Uuid),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("read_at", DateTime(timezone=True)),
    Column("snoozed_until", DateTime(timezone=True)),
    Column("folded_into", Uuid),
    Column("folds", Integer, nullable=False),
)
