"""The outbox: events that commit with the state they tell of.

A row names the stream and the partition of the stream that it goes to, computed with the server's own function; the
relay that holds that partition publishes it. ``stream_seq`` is null until the broker has acknowledged it. Rows are
kept, partitioned by day, so that a stream that lost its tail can be published again: PostgreSQL is the truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from pydantic_core import to_json
from sqlalchemy import Executable, text

from relevo.chassis import telemetry
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.envelope import MOST_ANCESTORS, Envelope
from relevo.contracts.streams import Stream

DAYS_AHEAD = 8
_UNCOMPRESSED = 8160
"""Bytes of a row; from PostgreSQL's 2,000 on it compressed every second event, for more than the rest of its insert cost."""
MAX_BODY = 900_000
"""Bytes; the broker takes messages up to 1 MiB, headers included."""

DDL_V1 = (
    """
    create table outbox (
        id bigint generated always as identity,
        created_at timestamptz not null default now(),
        stream text not null,
        p smallint not null,
        event_id uuid not null,
        subject text not null,
        headers text not null,
        body bytea not null,
        stream_seq bigint,
        primary key (id, created_at)
    ) partition by range (created_at)
    """,
    "create index outbox_waiting on outbox (id) where stream_seq is null",
    "create index outbox_event on outbox (event_id)",
    "comment on column outbox.stream_seq is 'sequence in the stream; null until the broker acknowledged it'",
    """
    create table relay_mark (
        stream text not null,
        p smallint not null,
        seq bigint not null,
        event_id uuid not null,
        at timestamptz not null,
        primary key (stream, p)
    )
    """,
    "comment on table relay_mark is 'the last message of each lane that the broker acknowledged to this service'",
)


class Executes(Protocol):
    """A transaction, as much of it as the outbox needs."""

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Any: ...


class EventTooLarge(ValueError):
    """An event that the broker would refuse; the transaction that would emit it must not commit."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One outgoing message, ready for the table."""

    stream: Stream
    p: int
    event_id: str
    subject: str
    headers: str
    body: bytes


def outgoing(
    service: str,
    data: Model,
    *,
    account: str,
    entity: str,
    actor: str,
    sequence: int,
    time: datetime | None,
    cause: Envelope | None,
    id: str | None,  # noqa: A002  (it is the event's id)
    actor_version: int = 0,
) -> tuple[Envelope, OutboxRow]:
    """The envelope and the row of an event.

    Raises KeyError for a body that the catalogue does not have, BadToken for values that no subject can carry,
    EventTooLarge above MAX_BODY.
    """
    message = BY_MODEL[type(data)]
    recorded = now()
    event_id = id or new_id()
    envelope = Envelope(
        id=event_id,
        type=message.name,
        source=f"relevo/{service}",
        account=account,
        entity=entity,
        time=time or recorded,
        recorded=recorded,
        actor=actor,
        correlation_id=(cause.correlation_id or cause.id) if cause else event_id,
        causation_id=cause.id if cause else "",
        sequence=sequence,
        depth=cause.depth + 1 if cause and actor.startswith("rule:") else (cause.depth if cause else 0),
        traceparent=cause.traceparent if cause and cause.traceparent else telemetry.current_traceparent(),
        ancestors=((cause.causation_id, *cause.ancestors)[:MOST_ANCESTORS] if cause and cause.causation_id else ()),
        actor_version=actor_version or (cause.actor_version if cause and cause.actor == actor else 0),
    )
    body = data.__pydantic_serializer__.to_json(data)
    if len(body) > MAX_BODY:
        raise EventTooLarge(f"{message.name} of {entity} has {len(body)} bytes, at most {MAX_BODY} fit on the bus")
    values = message.values(data, account=account, entity=entity, sender=service)
    row = OutboxRow(
        stream=message.stream,
        p=message.stream.partition_of(**values),
        event_id=event_id,
        subject=message.stream.subject(**values),
        headers=to_json(envelope.headers()).decode(),
        body=body,
    )
    return envelope, row


_INSERT = text(
    """
    insert into outbox (stream, p, event_id, subject, headers, body)
    select stream, p, event_id, subject, headers, body
    from unnest(
        cast(:streams as text[]), cast(:ps as smallint[]), cast(:event_ids as uuid[]),
        cast(:subjects as text[]), cast(:headers as text[]), cast(:bodies as bytea[])
    ) with ordinality as row(stream, p, event_id, subject, headers, body, n)
    order by n
    """
)


ANY_WAITING = text("select exists (select 1 from outbox where stream_seq is null)")


async def insert(tx: Executes, rows: list[OutboxRow]) -> None:
    """Write rows in the order given, in one statement."""
    await tx.execute(
        _INSERT,
        {
            "streams": [row.stream.name for row in rows],
            "ps": [row.p for row in rows],
            "event_ids": [row.event_id for row in rows],
            "subjects": [row.subject for row in rows],
            "headers": [row.headers for row in rows],
            "bodies": [row.body for row in rows],
        },
    )


async def ensure_days(tx: Executes, today: date | None = None) -> None:
    """Make the day partitions from today on, so that no insert ever lacks one."""
    start = today or datetime.now(UTC).date()
    present = {row[0] for row in await tx.execute(text("select relname from pg_class where relname like 'outbox_2%'"))}
    for offset in range(-1, DAYS_AHEAD):
        day = start + timedelta(days=offset)
        name = f"outbox_{day:%Y%m%d}"
        if name not in present:
            await tx.execute(
                text(
                    f"create table if not exists {name} partition of outbox "
                    f"for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00') "
                    f"with (toast_tuple_target = {_UNCOMPRESSED})"
                )
            )
