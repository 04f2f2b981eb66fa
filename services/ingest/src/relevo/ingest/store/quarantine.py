"""Refused events that nobody waits for: kept whole, with the reason, until a person decides."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import text

from relevo.chassis import Tx
from relevo.contracts.base import new_id
from relevo.ingest.domain.refusal import Fault

_KEEP = text(
    """
    insert into quarantine as q (id, account_id, inbox_id, fingerprint, subject, reason, faults, body, truncated,
                                 occurrences, received_at, last_seen, state)
    select id, account_id, inbox_id, fingerprint, subject, reason, cast(faults as jsonb), body, truncated, n, at, at, 'open'
    from unnest(cast(:ids as uuid[]), cast(:account_ids as text[]), cast(:inbox_ids as text[]),
                cast(:fingerprints as bytea[]), cast(:subjects as text[]), cast(:reasons as text[]),
                cast(:faults as text[]), cast(:bodies as bytea[]), cast(:truncated as boolean[]), cast(:ns as int[]),
                cast(:ats as timestamptz[]))
         as new(id, account_id, inbox_id, fingerprint, subject, reason, faults, body, truncated, n, at)
    order by account_id, fingerprint
    on conflict (account_id, fingerprint) where state = 'open' do update
        set occurrences = q.occurrences + excluded.occurrences, last_seen = excluded.last_seen
    returning cast(id as text) as id, (xmax = 0) as fresh
    """
)
_COLUMNS = """
    cast(id as text) as id, inbox_id, subject, reason, faults, occurrences, octet_length(body) as body_bytes, truncated,
    received_at, last_seen, state, resolved_at, resolved_by, resolution
"""
_PAGE = text(
    f"""
    select {_COLUMNS} from quarantine
    where account_id = :account_id and state = :state
      and (cast(:inbox_id as text) is null or inbox_id = :inbox_id)
      and (cast(:reason as text) is null or reason = :reason)
      and (cast(:before as uuid) is null or id < cast(:before as uuid))
    order by id desc limit :limit
    """
)
_ONE = text(f"select {_COLUMNS}, body from quarantine where account_id = :account_id and id = cast(:id as uuid)")
_ONE_LOCKED = text(f"{_ONE.text} for update")
_COUNTS = text(
    """
    select inbox_id, reason, count(*) as events, cast(sum(occurrences) as bigint) as occurrences
    from quarantine where account_id = :account_id and state = 'open'
    group by inbox_id, reason order by inbox_id, reason
    """
)
_RESOLVE = text(
    """
    update quarantine set state = :state, resolved_at = :at, resolved_by = :by, resolution = cast(:resolution as jsonb)
    where account_id = :account_id and id = cast(:id as uuid)
    """
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused delivery. ``account_id`` and ``inbox_id`` as its subject says; they may name nothing."""

    account_id: str
    inbox_id: str
    subject: str
    faults: tuple[Fault, ...]
    body: bytes
    at: datetime

    @property
    def fingerprint(self) -> bytes:
        """The same for the same delivery sent again."""
        subject = self.subject.encode()
        return blake2b(len(subject).to_bytes(4, "big") + subject + self.body, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the quarantine; ``fresh`` if it was not there before."""

    id: str
    refusal: Refusal
    fresh: bool


async def keep(tx: Tx, refusals: Iterable[Refusal], max_body: int) -> list[Kept]:
    """Put refused deliveries aside; the same one again only counts up while it is open."""
    found: dict[tuple[str, bytes], list[Refusal]] = {}
    for refusal in refusals:
        found.setdefault((refusal.account_id, refusal.fingerprint), []).append(refusal)
    groups = sorted(found.items())
    ids = [new_id() for _ in groups]
    firsts = [group[0] for _, group in groups]
    rows = await tx.execute(
        _KEEP,
        {
            "ids": ids,
            "account_ids": [refusal.account_id for refusal in firsts],
            "inbox_ids": [refusal.inbox_id for refusal in firsts],
            "fingerprints": [fingerprint for (_, fingerprint), _ in groups],
            "subjects": [refusal.subject for refusal in firsts],
            "reasons": [refusal.faults[0].code for refusal in firsts],
            "faults": [faults_json(refusal.faults) for refusal in firsts],
            "bodies": [refusal.body[:max_body] for refusal in firsts],
            "truncated": [len(refusal.body) > max_body for refusal in firsts],
            "ns": [len(group) for _, group in groups],
            "ats": [refusal.at for refusal in firsts],
        },
    )
    fresh = {row.id for row in rows if row.fresh}
    return [Kept(id_, refusal, fresh=id_ in fresh) for id_, refusal in zip(ids, firsts, strict=True)]


async def page(
    tx: Tx, account_id: str, *, state: str, inbox_id: str | None, reason: str | None, before: str | None, limit: int
) -> list[Any]:
    """Rows without bodies, newest first, older than an id."""
    rows = await tx.execute(
        _PAGE,
        {
            "account_id": account_id,
            "state": state,
            "inbox_id": inbox_id,
            "reason": reason,
            "before": before,
            "limit": limit,
        },
    )
    return list(rows)


async def one(tx: Tx, account_id: str, id_: str, *, lock: bool = False) -> Any | None:
    """A row with its body, or None."""
    found = await tx.execute(_ONE_LOCKED if lock else _ONE, {"account_id": account_id, "id": id_})
    return found.one_or_none()


async def counts(tx: Tx, account_id: str) -> list[Any]:
    """How many are open, by inbox and reason."""
    return list(await tx.execute(_COUNTS, {"account_id": account_id}))


async def resolve(
    tx: Tx, account_id: str, id_: str, *, state: str, by: str, at: datetime, resolution: dict[str, Any]
) -> None:
    """Close a row that this transaction has locked."""
    await tx.execute(
        _RESOLVE,
        {
            "account_id": account_id,
            "id": id_,
            "state": state,
            "by": by,
            "at": at,
            "resolution": json.dumps(resolution),
        },
    )


def faults_json(faults: Iterable[Fault]) -> str:
    """Faults as JSON text."""
    return json.dumps([{"code": f.code, "pointer": f.pointer, "es": f.es, "en": f.en} for f in faults])
