"""Events and segments of the log without a person, whose events stay with ids, numbers and times; segments without an account."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from pydantic import ValidationError

from relevo.chassis.erasing import Person
from relevo.chassis.objects import ObjectStore
from relevo.chassis.segments import Block, LogRow, Segment, pack, read_block
from relevo.contracts.catalogue import UnknownType
from relevo.contracts.envelope import ERASED
from relevo.contracts.personal import redact
from relevo.contracts.streams import BY_NAME


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
    return await _written(segment, store, person.erasure_id, lambda rows: [_bare(person, row) for row in rows])


def _bare(person: Person, row: LogRow) -> LogRow:
    bare = without(person, row.subject, row.headers, row.body)
    return row if bare is None else replace(row, headers=bare[0], body=bare[1])


def _is_of(account_id: str, segment: Segment, row: LogRow) -> bool:
    return BY_NAME[segment.stream].account_in(row.subject) == account_id


async def rows_of_account(account_id: str, segment: Segment, store: ObjectStore) -> list[str]:
    """The ids of the events of an account in a segment. Raises SegmentDamaged and what the store raises."""
    return [
        row.event_id
        for block in segment.blocks
        for row in await read_block(store, segment, block)
        if _is_of(account_id, segment, row)
    ]


async def written_without_account(account_id: str, drop_id: str, segment: Segment, store: ObjectStore) -> Segment:
    """Put a segment without an account's rows beside it, likewise."""
    return await _written(
        segment, store, drop_id, lambda rows: [row for row in rows if not _is_of(account_id, segment, row)]
    )


async def _written(
    segment: Segment, store: ObjectStore, mark: str, change: Callable[[list[LogRow]], list[LogRow]]
) -> Segment:
    """The same under a name with this mark. Its blocks reach as far as they did, so that the chain of segments stays whole."""
    name = f"{segment.name.removesuffix('.gz').partition('~')[0]}~{mark}.gz"
    blocks: list[Block] = []

    async def chunks() -> AsyncIterator[bytes]:
        offset = 0
        for block in segment.blocks:
            rows = change(await read_block(store, segment, block))
            packed = pack(rows)
            digest = hashlib.sha256(packed).hexdigest()
            blocks.append(Block(block.first_seq, block.last_seq, offset, len(packed), len(rows), digest))
            offset += len(packed)
            yield packed

    await store.put(name, chunks())
    return replace(segment, name=name, blocks=tuple(blocks))
