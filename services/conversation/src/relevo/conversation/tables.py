"""The tables that lists are composed over; the statements of the hot path are in store.py."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, MetaData, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

_TIME = DateTime(timezone=True)
_ID = Uuid(as_uuid=False)

contacts = Table(
    "contacts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("phone", Text),
    Column("language", Text),
    Column("labels", ARRAY(Text), nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("identifier", Text),
    Column("company", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("country", Text),
    Column("attributes", JSONB, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("erased_at", _TIME),
    Column("owner_id", _ID),
    Column("owner_team_id", _ID),
)

contact_activity = Table(
    "contact_activity",
    metadata,
    Column("contact_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("at", _TIME, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("inbox_id", _ID, nullable=False),
    Column("channel", Text, nullable=False),
    Column("contact_id", _ID, nullable=False),
    Column("source_id", Text, nullable=False),
    Column("recipient_key", Text, nullable=False),
    Column("exclusive", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("snoozed_until", _TIME),
    Column("priority", Text),
    Column("subject", Text, nullable=False),
    Column("language", Text),
    Column("labels", ARRAY(Text), nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("assignee_id", _ID),
    Column("team_id", _ID),
    Column("participant_ids", ARRAY(_ID), nullable=False),
    Column("mentioned", ARRAY(Text), nullable=False),
    Column("owner_id", _ID),
    Column("assignment_version", BigInteger, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("opened_at", _TIME, nullable=False),
    Column("resolved_at", _TIME),
    Column("first_reply_at", _TIME),
    Column("waiting_since", _TIME),
    Column("last_activity_at", _TIME, nullable=False),
    Column("active_minute", _TIME, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("merged_into", _ID),
    Column("absorbed", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("conversation_id", _ID),
    Column("withheld_from", _ID),
    Column("sequence", BigInteger),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("author_name", Text, nullable=False),
    Column("external_id", Text),
    Column("reply_to", Text),
    Column("attachments", JSONB, nullable=False),
    Column("mentions", ARRAY(Text), nullable=False),
    Column("activity", JSONB),
    Column("cause", Text),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("reactions", JSONB, nullable=False),
    Column("retry_of", _ID),
    Column("edited_at", _TIME),
    Column("deleted_at", _TIME),
    Column("occurred_at", _TIME, nullable=False),
    Column("created_at", _TIME, nullable=False),
)

mentions = Table(
    "mentions",
    metadata,
    Column("account_id", _ID, nullable=False),
    Column("agent_id", _ID, primary_key=True),
    Column("conversation_id", _ID, nullable=False),
    Column("message_id", _ID, primary_key=True),
    Column("mentioned_at", _TIME, nullable=False),
)

drafts = Table(
    "drafts",
    metadata,
    Column("account_id", _ID, nullable=False),
    Column("agent_id", _ID, primary_key=True),
    Column("conversation_id", _ID, primary_key=True),
    Column("text", Text, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("updated_at", _TIME, nullable=False),
)

surveys = Table(
    "surveys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("conversation_id", _ID, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("way", Text, nullable=False),
    Column("inbox_id", _ID, nullable=False),
    Column("agent_id", _ID),
    Column("team_id", _ID),
    Column("language", Text, nullable=False),
    Column("sent_at", _TIME, nullable=False),
    Column("answer_until", _TIME, nullable=False),
    Column("change_days", Integer, nullable=False),
    Column("rating", SmallInteger),
    Column("comment", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("answered_at", _TIME),
    Column("changed_at", _TIME),
)

reminders = Table(
    "reminders",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("conversation_id", _ID, nullable=False),
    Column("agent_id", _ID),
    Column("text", Text, nullable=False),
    Column("unless", Text, nullable=False),
    Column("remind", Text, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", _TIME, nullable=False),
    Column("due_at", _TIME, nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)
