"""Dead letters: what this service gave up on, whole, with the reason; the line behind it moves on."""

import json
from typing import Protocol

import structlog
from sqlalchemy import text

from relevo.chassis import telemetry
from relevo.chassis.database import Tx
from relevo.contracts.base import new_id, now
from relevo.contracts.dead import DeadLettered
from relevo.contracts.streams import BadToken

log = structlog.get_logger("relevo.dead_letters")

UNKNOWN_ACCOUNT = "unknown"

DDL_V1 = (
    """
    create table dead_letters (
        id uuid primary key,
        stream text not null,
        p smallint not null,
        stream_seq bigint not null,
        subject text not null,
        headers jsonb not null,
        body bytea not null,
        reason text not null,
        error text not null,
        attempts int not null,
        created_at timestamptz not null default now(),
        unique (stream, stream_seq)
    )
    """,
)

_KEEP = text(
    """
    insert into dead_letters (id, stream, p, stream_seq, subject, headers, body, reason, error, attempts)
    values (cast(:id as uuid), :stream, :p, :seq, :subject, cast(:headers as jsonb), :body, :reason, :error, :attempts)
    on conflict (stream, stream_seq) do nothing
    """
)


class Message(Protocol):
    """What is kept of a message, whether it was just read or had waited."""

    @property
    def seq(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> bytes: ...


async def keep(
    tx: Tx, message: Message, *, stream: str, p: int, account: str, reason: str, error: str, attempts: int
) -> None:
    """Record a message that could not be handled, and tell the bus; once that is committed, count it and log it."""
    seq, subject, headers, body = message.seq, message.subject, message.headers, message.body
    letter = DeadLettered(
        dead_letter_id=new_id(),
        service=tx.service,
        stream=stream,
        stream_seq=seq,
        subject=subject,
        headers=headers,
        body=body[:600_000].decode("utf-8", "backslashreplace"),
        reason=reason,
        error=error[:4000],
        attempts=attempts,
        at=now(),
    )
    await tx.execute(
        _KEEP,
        {
            "id": letter.dead_letter_id,
            "stream": stream,
            "p": p,
            "seq": seq,
            "subject": subject,
            "headers": json.dumps(headers).replace("\\u0000", ""),
            "body": body,
            "reason": reason,
            "error": error[:4000].replace("\x00", ""),
            "attempts": attempts,
        },
    )
    try:
        tx.emit(letter, account=account or UNKNOWN_ACCOUNT, entity=letter.dead_letter_id)
    except BadToken:
        tx.emit(letter, account=UNKNOWN_ACCOUNT, entity=letter.dead_letter_id)

    def kept() -> None:
        telemetry.DEAD_LETTERS.labels(tx.service, stream).inc()
        log.error("dead_letter", stream=stream, seq=seq, type=headers.get("ce-type", ""), reason=reason, error=error)

    tx.after_commit(kept)
