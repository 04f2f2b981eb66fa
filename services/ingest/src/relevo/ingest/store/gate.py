"""The ledger of accepted events, the senders' counters, and the conflicts."""

from collections.abc import Iterable, Sequence

from sqlalchemy import text

from relevo.chassis import Tx
from relevo.ingest.domain.ledger import Arrival, Place

_CLAIM = text(
    """
    insert into ledger (inbox_id, dedup_key, account_id, body_hash, accepted_at)
    select inbox_id, dedup_key, account_id, body_hash, at
    from unnest(cast(:inbox_ids as uuid[]), cast(:keys as bytea[]), cast(:account_ids as uuid[]),
                cast(:hashes as bytea[]), cast(:ats as timestamptz[])) as new(inbox_id, dedup_key, account_id, body_hash, at)
    order by inbox_id, dedup_key
    on conflict (inbox_id, dedup_key) do nothing
    returning cast(inbox_id as text) as inbox_id, dedup_key
    """
)
_HASHES = text(
    """
    select cast(l.inbox_id as text) as inbox_id, l.dedup_key, l.body_hash
    from unnest(cast(:inbox_ids as uuid[]), cast(:keys as bytea[])) as asked(inbox_id, dedup_key)
    join ledger l on l.inbox_id = asked.inbox_id and l.dedup_key = asked.dedup_key
    """
)
_ADVANCE = text(
    """
    insert into senders (inbox_id, sender_key, account_id, sequence, first_seen, last_seen)
    select inbox_id, sender_key, account_id, n, first, last
    from unnest(cast(:inbox_ids as uuid[]), cast(:sender_keys as text[]), cast(:account_ids as uuid[]),
                cast(:counts as bigint[]), cast(:firsts as timestamptz[]), cast(:lasts as timestamptz[]))
         as new(inbox_id, sender_key, account_id, n, first, last)
    order by inbox_id, sender_key
    on conflict (inbox_id, sender_key) do update
        set sequence = senders.sequence + excluded.sequence, last_seen = greatest(senders.last_seen, excluded.last_seen)
    returning cast(inbox_id as text) as inbox_id, sender_key, sequence
    """
)
_CONFLICT = text(
    """
    insert into conflicts (inbox_id, dedup_key, body_hash, account_id, external_id, body, occurrences, first_seen, last_seen)
    select inbox_id, dedup_key, body_hash, account_id, external_id, cast(body as jsonb), n, at, at
    from unnest(cast(:inbox_ids as uuid[]), cast(:keys as bytea[]), cast(:hashes as bytea[]),
                cast(:account_ids as uuid[]), cast(:external_ids as text[]), cast(:bodies as text[]),
                cast(:counts as int[]), cast(:ats as timestamptz[]))
         as new(inbox_id, dedup_key, body_hash, account_id, external_id, body, n, at)
    order by inbox_id, dedup_key, body_hash
    on conflict (inbox_id, dedup_key, body_hash) do update
        set occurrences = conflicts.occurrences + excluded.occurrences, last_seen = excluded.last_seen
    """
)


async def claim(tx: Tx, wanted: Sequence[Arrival]) -> set[Place]:
    """Put the keys into the ledger; answers those that were not there.

    Waits for other transactions that are putting the same keys in, and then knows how they ended.
    """
    rows = await tx.execute(
        _CLAIM,
        {
            "inbox_ids": [one.inbox.id for one in wanted],
            "keys": [one.place.key for one in wanted],
            "account_ids": [one.inbox.account_id for one in wanted],
            "hashes": [one.body_hash for one in wanted],
            "ats": [one.at for one in wanted],
        },
    )
    return {Place(row.inbox_id, bytes(row.dedup_key)) for row in rows}


async def body_hashes(tx: Tx, places: Sequence[Place]) -> dict[Place, bytes]:
    """The body hashes that the ledger holds for these keys."""
    rows = await tx.execute(
        _HASHES, {"inbox_ids": [place.inbox_id for place in places], "keys": [place.key for place in places]}
    )
    return {Place(row.inbox_id, bytes(row.dedup_key)): bytes(row.body_hash) for row in rows}


async def advance_senders(tx: Tx, accepted: Iterable[Arrival]) -> dict[tuple[str, str], int]:
    """Reserve an event number for each arrival within its sender, and lock the senders until the commit.

    Answers, by (inbox, sender key), the number before the first reserved one.
    """
    senders: dict[tuple[str, str], list[Arrival]] = {}
    for one in accepted:
        senders.setdefault((one.inbox.id, one.sender_key), []).append(one)
    rows = await tx.execute(
        _ADVANCE,
        {
            "inbox_ids": [inbox_id for inbox_id, _ in senders],
            "sender_keys": [key for _, key in senders],
            "account_ids": [group[0].inbox.account_id for group in senders.values()],
            "counts": [len(group) for group in senders.values()],
            "firsts": [min(one.at for one in group) for group in senders.values()],
            "lasts": [max(one.at for one in group) for group in senders.values()],
        },
    )
    return {(row.inbox_id, row.sender_key): row.sequence - len(senders[row.inbox_id, row.sender_key]) for row in rows}


async def record_conflicts(tx: Tx, arrivals: Iterable[Arrival]) -> None:
    """Keep what came again with another body; the same other body is one row that counts."""
    found: dict[tuple[Place, bytes], list[Arrival]] = {}
    for one in arrivals:
        found.setdefault((one.place, one.body_hash), []).append(one)
    firsts = [group[0] for group in found.values()]
    await tx.execute(
        _CONFLICT,
        {
            "inbox_ids": [one.inbox.id for one in firsts],
            "keys": [one.place.key for one in firsts],
            "hashes": [one.body_hash for one in firsts],
            "account_ids": [one.inbox.account_id for one in firsts],
            "external_ids": [one.event.external_id for one in firsts],
            "bodies": [one.event.model_dump_json(exclude={"raw"}) for one in firsts],
            "counts": [len(group) for group in found.values()],
            "ats": [one.at for one in firsts],
        },
    )
