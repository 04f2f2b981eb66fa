"""Facts as Parquet: columns with types, written while they are read, whatever their number.

Loading this takes 48 MB of memory: it is loaded for the first such file.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from relevo.contracts.metrics import Fact

BATCH: Final = 500
"""How many facts are in memory as they are read; then they are columns, of a fifth of that."""
ROW_GROUP: Final = 20
"""So many batches are packed together: larger groups are read faster."""

Named = tuple[Fact, dict[str, str]]
"""A fact, and what people, teams, inboxes and labels (`label:KEY`) that it names are called."""


_TEXT: Final = pa.string()
_SCHEMA: Final = pa.schema(
    [
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("metric", pa.dictionary(pa.int32(), _TEXT), nullable=False),
        pa.field("unit", pa.dictionary(pa.int32(), _TEXT), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("business_value", pa.float64()),
        pa.field("conversation_id", _TEXT),
        *(pa.field(name, _TEXT) for name in ("agent_id", "agent", "team_id", "team", "inbox_id", "inbox", "channel")),
        pa.field("labels", pa.list_(_TEXT), nullable=False),
        *(pa.field(name, _TEXT) for name in ("priority", "language", "state")),
        pa.field("cause_event_id", _TEXT, nullable=False),
        pa.field("fact_id", _TEXT, nullable=False),
    ]
)


class _Sink(io.RawIOBase):
    """What the writer has written since it was asked last."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        """What there is, once."""
        found = bytes(self._written)
        self._written.clear()
        return found


async def written(facts: AsyncIterator[Named]) -> AsyncIterator[bytes]:
    """The file, a row group at a time; times are in UTC. It is packed in another thread: others are served meanwhile."""
    sink = _Sink()
    with parquet.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        async for some in _batches(facts):
            group.append(some)
            if len(group) == ROW_GROUP:
                await asyncio.to_thread(writer.write_table, _table(group))
                yield sink.taken()
                group = []
        await asyncio.to_thread(writer.write_table, _table(group))
        yield sink.taken()
    yield sink.taken()


async def _batches(facts: AsyncIterator[Named]) -> AsyncIterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    async for fact, names in facts:
        rows.append(_row(fact, names))
        if len(rows) == BATCH:
            yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
            rows = []
    yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)


def _table(group: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(group, schema=_SCHEMA)


def _row(fact: Fact, names: dict[str, str]) -> dict[str, Any]:
    d = fact.dimensions
    return {
        "at": fact.at,
        "metric": fact.metric,
        "unit": fact.unit,
        "value": fact.value,
        "business_value": fact.business_value,
        "conversation_id": fact.conversation_id,
        "agent_id": d.agent_id,
        "agent": names.get(d.agent_id or ""),
        "team_id": d.team_id,
        "team": names.get(d.team_id or ""),
        "inbox_id": d.inbox_id,
        "inbox": names.get(d.inbox_id or ""),
        "channel": d.channel,
        "labels": [names.get(f"label:{key}", key) for key in d.labels],
        "priority": d.priority,
        "language": d.language,
        "state": d.state,
        "cause_event_id": fact.cause_event_id,
        "fact_id": fact.fact_id,
    }
