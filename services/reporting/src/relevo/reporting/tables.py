"""The tables that reports read with filters composed at run time; the migrations define them in full."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
_ID: Final = Uuid(as_uuid=False)
_MOMENT: Final = DateTime(timezone=True)

facts = Table(
    "facts",
    metadata,
    Column("fact_id", _ID, primary_key=True),
    Column("account_id", _ID, nullable=False),
    Column("metric", Text, nullable=False),
    Column("value", Numeric(18, 6), nullable=False),
    Column("business_value", Numeric(18, 6)),
    Column("at", _MOMENT, primary_key=True),
    Column("started_at", _MOMENT),
    Column("conversation_id", _ID),
    Column("cause_event_id", _ID, nullable=False),
    Column("agent_id", _ID),
    Column("team_id", _ID),
    Column("inbox_id", _ID),
    Column("channel", Text),
    Column("labels", JSONB, nullable=False),
    Column("priority", Text),
    Column("language", Text),
    Column("state", Text),
    Column("rule_id", _ID),
    Column("replaces", _ID),
    Column("replaced_value", Numeric(18, 6)),
    Column("replaced", Boolean, nullable=False),
    Column("calendar_id", _ID),
    Column("calendar_version", BigInteger),
)


def _rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("account_id", _ID, nullable=False),
        Column("metric", Text, nullable=False),
        Column("bucket", _MOMENT, nullable=False),
        Column("agent_id", _ID),
        Column("team_id", _ID),
        Column("inbox_id", _ID),
        Column("channel", Text),
        Column("state", Text),
        Column("count", BigInteger, nullable=False),
        Column("sum", Numeric(24, 6), nullable=False),
        Column("business_count", BigInteger, nullable=False),
        Column("business_sum", Numeric(24, 6), nullable=False),
    )


rollups: Final = {name: _rollup(f"rollup_{name}") for name in ("minute", "hour", "day", "month")}

TABLES: Final = (facts.name, *(table.name for table in rollups.values()))
"""What the log is turned into."""
