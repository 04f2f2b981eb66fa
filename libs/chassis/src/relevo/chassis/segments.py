"""Segments: one day of one lane of the outbox, compressed and checksummed, as the object store holds it.

A segment is a series of gzip members (`zcat` reads it as one), each with up to BLOCK_ROWS rows in the order of their
stream sequences. The manifest has every block's place and SHA-256, so that a page is read without the rest of the day,
and what is damaged is refused. A row is one line of JSON, then its body as it was published, then a line feed.
"""

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from relevo.chassis.objects import ObjectMissing, ObjectStore

BLOCK_ROWS = 1000


class SegmentDamaged(Exception):
    """A segment that does not hold what its manifest says; the message names it."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """One message of an owner's log. ``headers`` are JSON text, as the outbox has them; ``created_at`` is aware, UTC."""

    id: int
    created_at: datetime
    event_id: str
    subject: str
    headers: str
    body: bytes
    seq: int

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        found: str = json.loads(self.headers).get("ce-type", "")
        return found


@dataclass(frozen=True, slots=True)
class Block:
    """One gzip member: where it lies, and which sequences it holds."""

    first_seq: int
    last_seq: int
    offset: int
    length: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """The manifest of one segment. ``previous_seq`` ends the lane's segment before it, 0 when it is the first."""

    stream: str
    p: int
    day: date
    previous_seq: int
    name: str
    blocks: tuple[Block, ...]

    @property
    def first_seq(self) -> int:
        return min(block.first_seq for block in self.blocks)

    @property
    def last_seq(self) -> int:
        return max(block.last_seq for block in self.blocks)

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)

    @property
    def size(self) -> int:
        return sum(block.length for block in self.blocks)


def pack(rows: Sequence[LogRow]) -> bytes:
    """Rows as one gzip member; the same rows always give the same bytes."""
    parts = []
    for row in rows:
        head = {
            "id": row.id,
            "created_at": row.created_at.astimezone(UTC).isoformat(),
            "event_id": row.event_id,
            "subject": row.subject,
            "headers": row.headers,
            "seq": row.seq,
            "size": len(row.body),
        }
        parts += [json.dumps(head, ensure_ascii=False).encode(), b"\n", row.body, b"\n"]
    return gzip.compress(b"".join(parts), compresslevel=6, mtime=0)


def unpack(packed: bytes) -> list[LogRow]:
    """The rows of a gzip member. Raises ValueError for bytes that `pack` never made."""
    try:
        data = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot be decompressed: {error}") from None
    rows, place = [], 0
    while place < len(data):
        end = data.index(b"\n", place)
        head: dict[str, Any] = json.loads(data[place:end])
        after = end + 1 + head["size"]
        if data[after : after + 1] != b"\n":
            raise ValueError("a row does not end where it should")
        rows.append(
            LogRow(
                id=head["id"],
                created_at=datetime.fromisoformat(head["created_at"]),
                event_id=head["event_id"],
                subject=head["subject"],
                headers=head["headers"],
                body=data[end + 1 : after],
                seq=head["seq"],
            )
        )
        place = after + 1
    return rows


def block_of(rows: Sequence[LogRow], packed: bytes, offset: int) -> Block:
    """The manifest's entry of a block that begins at this offset."""
    return Block(rows[0].seq, rows[-1].seq, offset, len(packed), len(rows), hashlib.sha256(packed).hexdigest())


async def read_block(store: ObjectStore, segment: Segment, block: Block) -> list[LogRow]:
    """The rows of one block. Raises SegmentDamaged, naming the segment and what is wrong with it."""
    where = f"segment {segment.name} ({segment.stream}/{segment.p}, {segment.day})"
    try:
        packed = await store.get(segment.name, block.offset, block.length)
    except ObjectMissing as error:
        raise SegmentDamaged(f"{where}: {error}; restore it from the object store's backup") from None
    if hashlib.sha256(packed).hexdigest() != block.sha256:
        raise SegmentDamaged(
            f"{where} is damaged at byte {block.offset}: its checksum differs; restore it from the object store's backup"
        )
    try:
        rows = unpack(packed)
    except ValueError as error:
        raise SegmentDamaged(f"{where} cannot be read: {error}") from None
    if len(rows) != block.rows:
        raise SegmentDamaged(f"{where} holds {len(rows)} rows where its manifest says {block.rows}")
    return rows
