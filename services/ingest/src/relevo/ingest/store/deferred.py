"""Inbound messages that wait their turn."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text

from relevo.chassis import Database, Received, Tx
from relevo.ingest.domain.admission import Lane
from relevo.kernel.text import clean

_KEEP = text(
    """
    insert into deferred (p, seq, account_id, subject, headers, body, at)
    select p, seq, account_id, subject, headers, body, at
    from unnest(cast(:ps as smallint[]), cast(:seqs as bigint[]), cast(:account_ids as text[]), cast(:subjects as text[]),
                cast(:headers as text[]), cast(:bodies as bytea[]), cast(:ats as timestamptz[]))
         with ordinality as new(p, seq, account_id, subject, headers, body, at, place)
    order by place
    """
)
_LANES = text("select distinct p, account_id from deferred where p = any(cast(:ps as smallint[]))")
_COUNT = text("select count(*) from deferred where p = any(cast(:ps as smallint[]))")
_TAKE = text(
    """
    with next as (
        select waiting.id
        from unnest(cast(:account_ids as text[]), cast(:ns as int[])) with ordinality as asked(account_id, n, place)
        cross join lateral (
            select d.id from deferred d
            where d.account_id = asked.account_id and d.p = any(cast(:ps as smallint[]))
            order by d.id limit asked.n for update
        ) as waiting
        order by asked.place
    ), taken as (
        delete from deferred d using next where d.id = next.id
        returning d.id, d.p, d.seq, d.account_id, d.subject, d.headers, d.body, d.at
    )
    select * from taken order by id
    """
)


class Deferred(NamedTuple):
    """A message that waited. ``time`` is when the stream stored it; the subject is clean, as the gate reads it."""

    lane: Lane
    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes
    time: datetime


async def keep(tx: Tx, messages: Sequence[tuple[Received, Lane]]) -> None:
    """Put messages at the end of their lanes, in order. Their positions are locked by this transaction."""
    await tx.execute(
        _KEEP,
        {
            "ps": [lane.p for _, lane in messages],
            "seqs": [received.seq for received, _ in messages],
            "account_ids": [lane.account for _, lane in messages],
            "subjects": [clean(received.subject) for received, _ in messages],
            "headers": [json.dumps(received.headers) for received, _ in messages],
            "bodies": [received.body for received, _ in messages],
            "ats": [received.time for received, _ in messages],
        },
    )


async def lanes(tx: Tx, ps: Collection[int]) -> set[Lane]:
    """The lanes of these partitions in which messages wait."""
    return {Lane(row.p, row.account_id) for row in await tx.execute(_LANES, {"ps": list(ps)})}


async def count(database: Database, ps: Collection[int]) -> int:
    """How many messages wait in these partitions."""
    return int((await database.single(_COUNT, {"ps": list(ps)}, door="lanes")).scalar_one())


async def take(tx: Tx, wanted: Mapping[str, int], ps: Collection[int]) -> list[Deferred]:
    """Take out the first so many messages of each account, of these partitions: in order, and nobody else gets them.

    Who takes from the same accounts meanwhile waits, so that the order is kept whoever believes to hold a partition.
    """
    accounts = sorted(wanted)  # the order in which rows are locked
    rows = await tx.execute(
        _TAKE, {"account_ids": accounts, "ns": [wanted[account] for account in accounts], "ps": sorted(ps)}
    )
    return [
        Deferred(Lane(row.p, row.account_id), row.seq, row.subject, json.loads(row.headers), bytes(row.body), row.at)
        for row in rows
    ]
