"""The dead letters of all services, as this service has seen them on the bus."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis import Tx
from relevo.contracts.dead import DeadLettered
from relevo.kernel.text import clean

_RECORD = text(
    """
    insert into dead_letters_seen (id, account_id, service, stream, stream_seq, subject, headers, body, body_encoding,
                                   reason, error, attempts, died_at, seen_at, state)
    select id, account_id, service, stream, stream_seq, subject, cast(headers as jsonb), body, body_encoding,
           reason, error, attempts, died_at, :at, 'open'
    from unnest(cast(:ids as uuid[]), cast(:account_ids as text[]), cast(:services as text[]), cast(:streams as text[]),
                cast(:seqs as bigint[]), cast(:subjects as text[]), cast(:headers as text[]), cast(:bodies as bytea[]),
                cast(:encodings as text[]), cast(:reasons as text[]), cast(:errors as text[]),
                cast(:attempts as int[]), cast(:died_ats as timestamptz[]))
         as new(id, account_id, service, stream, stream_seq, subject, headers, body, body_encoding, reason, error,
                attempts, died_at)
    order by id
    on conflict (id) do nothing
    """
)
_COLUMNS = """
    cast(id as text) as id, service, stream, stream_seq, subject, reason, error, attempts, died_at, seen_at, state,
    octet_length(body) as body_bytes
"""
_PAGE = text(
    f"""
    select {_COLUMNS} from dead_letters_seen
    where account_id = :account_id and state = :state
      and (cast(:service as text) is null or service = :service)
      and (cast(:reason as text) is null or reason = :reason)
      and (cast(:before as uuid) is null or id < cast(:before as uuid))
    order by id desc limit :limit
    """
)
_ONE = text(
    f"""
    select {_COLUMNS}, headers, body, body_encoding from dead_letters_seen
    where account_id = :account_id and id = cast(:id as uuid)
    """
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with the account that its subject names."""

    account_id: str
    data: DeadLettered


async def record(tx: Tx, letters: Sequence[Letter], at: datetime) -> None:
    """Keep them, each once whatever is redelivered."""
    data = [letter.data for letter in letters]
    await tx.execute(
        _RECORD,
        {
            "ids": [one.dead_letter_id for one in data],
            "account_ids": [letter.account_id for letter in letters],
            "services": [one.service for one in data],
            "streams": [one.stream for one in data],
            "seqs": [one.stream_seq for one in data],
            "subjects": [clean(one.subject) for one in data],
            "headers": [json.dumps({clean(k): clean(v) for k, v in one.headers.items()}) for one in data],
            "bodies": [one.body.encode() for one in data],
            "encodings": [one.body_encoding for one in data],
            "reasons": [clean(one.reason) for one in data],
            "errors": [clean(one.error) for one in data],
            "attempts": [one.attempts for one in data],
            "died_ats": [one.at for one in data],
            "at": at,
        },
    )


async def page(
    tx: Tx, account_id: str, *, state: str, service: str | None, reason: str | None, before: str | None, limit: int
) -> list[Any]:
    """Rows without bodies, newest first, older than an id."""
    rows = await tx.execute(
        _PAGE,
        {
            "account_id": account_id,
            "state": state,
            "service": service,
            "reason": reason,
            "before": before,
            "limit": limit,
        },
    )
    return list(rows)


async def one(tx: Tx, account_id: str, id_: str) -> Any | None:
    """A row with headers and body, or None."""
    found = await tx.execute(_ONE, {"account_id": account_id, "id": id_})
    return found.one_or_none()
