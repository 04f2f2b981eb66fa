"""Events and segments of the log without a person: the event stays, with its ids, numbers and times."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

from pydantic import ValidationError

from relevo.chassis.erasing import Person
from relevo.chassis.objects import ObjectStore
from relevo.chassis.segments import Block, LogRow, Segment, block_of, pack, read_block
from relevo.contracts.catalogue import UnknownType
from relevo.contracts.envelope import ERASED
from relevo.contracts.personal import redact


def without(person: Person, subject: str, headers: str, body: bytes) -> tuple[str, bytes] | None:
    """Headers and body of an event without a person; None when it tells nothing of them (any more)."""
    if not person.concerned(subject.encode(), headers.encode(), body):
        return None
    try:
        bare = redact(json.loads(headers).get("ce-type", ""), body)
    except (UnknownType, ValidationError):
        bare = b"{}"
    if bare == body:
        return None
    return headers if f'"{ERASED}"' in headers else f'{{"{ERASED}":"1",' + headers[1:], bare


async def rows_about(person: Person, segment: Segment, store: ObjectStore) -> list[LogRow]:
    """The rows of a segment that tell of a person. Raises SegmentDamaged and what the store raises."""
    return [
        row
        for block in segment.blocks
        for row in await read_block(store, segment, block)
        if without(person, row.subject, row.headers, row.body) is not None
    ]


async def written_without(person: Person, segment: Segment, store: ObjectStore) -> Segment:
    """Put a segment without a person beside it, under a name of its own; answers that one's manifest, unread as yet.

    Raises SegmentDamaged and what the store raises.
    """
    base = segment.name.removesuffix(".gz").partition("~")[0]
    name = f"{base}~{person.erasure_id}.gz"
    blocks: list[Block] = []

    async def chunks() -> AsyncIterator[bytes]:
        offset = 0
        for block in segment.blocks:
            rows = [_bare(person, row) for row in await read_block(store, segment, block)]
            packed = pack(rows)
            blocks.append(block_of(rows, packed, offset))
            offset += len(packed)
            yield packed

    await store.put(name, chunks())
    return replace(segment, name=name, blocks=tuple(blocks))


def _bare(person: Person, row: LogRow) -> LogRow:
    bare = without(person, row.subject, row.headers, row.body)
    return row if bare is None else replace(row, headers=bare[0], body=bare[1])
