"""The manifest of the archive as who writes segments anew needs it: which there are, and which takes another's place."""

import json
from dataclasses import asdict

from sqlalchemy import text

from relevo.chassis.database import Database, Tx
from relevo.chassis.segments import Block, Segment

_SEGMENTS = text("select stream, p, day, previous_seq, name, blocks from segments order by day, stream, p")
_REPLACE = text(
    """
    update segments set name = :name, bytes = :bytes, rows = :rows, blocks = cast(:blocks as jsonb)
    where stream = :stream and p = :p and day = :day and name = :old
    """
)


async def segments(database: Database) -> list[Segment]:
    """All of them, the oldest first."""
    return [
        Segment(row.stream, row.p, row.day, row.previous_seq, row.name, tuple(Block(**block) for block in row.blocks))
        for row in (await database.single(_SEGMENTS)).all()
    ]


async def replace(tx: Tx, old: Segment, anew: Segment) -> None:
    """From the commit on, one that was written anew is read instead of the old one."""
    given = {"stream": anew.stream, "p": anew.p, "day": anew.day, "old": old.name, "name": anew.name}
    blocks = json.dumps([asdict(block) for block in anew.blocks])
    await tx.execute(_REPLACE, {**given, "bytes": anew.size, "rows": anew.rows, "blocks": blocks})
