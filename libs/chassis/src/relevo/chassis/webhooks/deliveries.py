"""SQL of the deliveries, and of the lanes in which they wait.

A lane is what keeps its order: of an endpoint a conversation each, or all of it. Only the first delivery that waits in
a lane is ever tried. A lane has a row while something waits there, so that finding what is due looks at no backlog.
Times come from the caller: PostgreSQL's own clock decides nothing here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from urllib.parse import urlsplit

from sqlalchemy import Row, text

from relevo.chassis.database import Tx
from relevo.chassis.webhooks.endpoints import Subscription, all_lanes_now
from relevo.contracts.base import new_id
from relevo.kernel.webhooks import Health, State, Verdict


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An event for an endpoint. ``entity_id``: the conversation or contact that it tells of."""

    subscription: Subscription
    entity_id: str
    event_id: str
    type: str
    body: str

    @property
    def lane(self) -> str:
        """Where it keeps its order."""
        return self.entity_id if self.subscription.ordered_by == "conversation" else ""


_ADD = text("""
    insert into webhook_deliveries (id, account_id, endpoint_id, lane, entity_id, event_id, type, body, created_at)
    select cast(id as uuid), cast(account as uuid), cast(endpoint as uuid), lane, entity, event, type, body, cast(:at as timestamptz)
    from unnest(cast(:ids as text[]), cast(:accounts as text[]), cast(:endpoints as text[]), cast(:lanes as text[]),
                cast(:entities as text[]), cast(:events as text[]), cast(:types as text[]), cast(:bodies as text[]))
         with ordinality as row(id, account, endpoint, lane, entity, event, type, body, nth)
    order by nth
    on conflict (endpoint_id, event_id) do nothing
""")
# The lane is locked even where it is there already: whoever finds it empty must see what comes now (see `finish`).
_LANES = text("""
    insert into webhook_lanes as l (endpoint_id, lane, account_id, next_at)
    select distinct cast(endpoint as uuid) as e, lane, cast(account as uuid), cast(:at as timestamptz)
    from unnest(cast(:endpoints as text[]), cast(:lanes as text[]), cast(:accounts as text[])) as row(endpoint, lane, account)
    order by e, lane
    on conflict (endpoint_id, lane) do update set next_at = l.next_at
""")
# One that struggles is asked by one request at a time: by the delivery that was not tried for longest, whenever it
# would be due. The endpoint's own claim keeps everybody else away meanwhile.
_CLAIM = text("""
    with live as (
        select id, failures >= :struggles_after as struggles from webhook_endpoints e
        where enabled and paused_at is null and next_at <= :at and id <> all(cast(:busy as uuid[])) and exists (
            select 1 from webhook_lanes l
            where l.endpoint_id = e.id and (l.next_at <= :at or e.failures >= :struggles_after))
        for no key update skip locked
    ), picked as (
        select l.endpoint_id, l.lane, live.struggles from live cross join lateral (
            select endpoint_id, lane from webhook_lanes
            where endpoint_id = live.id and (next_at <= :at or live.struggles)
            order by next_at limit case when live.struggles then 1 else cast(:of_one as integer) end
            for update skip locked
        ) l limit :limit
    ), held as (
        update webhook_endpoints e set next_at = :until from picked where picked.struggles and e.id = picked.endpoint_id
    )
    update webhook_lanes l set next_at = :until from picked
    where l.endpoint_id = picked.endpoint_id and l.lane = picked.lane
    returning cast(l.endpoint_id as text) as endpoint_id, l.lane, cast(l.account_id as text) as account_id
""")
_FIRST = text("""
    select cast(d.id as text) as id, d.type, d.body, d.attempts, d.first_tried_at,
           e.url, e.secret, e.previous_secret, e.rotated_at
    from webhook_deliveries d join webhook_endpoints e on e.id = d.endpoint_id and e.account_id = d.account_id
    where d.account_id = cast(:account as uuid) and d.endpoint_id = cast(:endpoint as uuid) and d.lane = :lane
      and d.state = 'waiting'
    order by d.n limit 1
""")
_HEALTH = text("""
    select failures, failing_since, next_at, paused_at, url from webhook_endpoints
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) for no key update
""")
_SET_HEALTH = text("""
    update webhook_endpoints
    set failures = :failures, failing_since = :failing_since, next_at = :next_at, last_error = :error,
        last_tried_at = :at, paused_at = case when :paused then coalesce(paused_at, :at) else paused_at end,
        last_delivered_at = case when :delivered then :at else last_delivered_at end
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
""")
_NOTE = text("""
    update webhook_deliveries
    set attempts = attempts + 1, state = cast(:state as text), first_tried_at = coalesce(first_tried_at, :at), last_tried_at = :at,
        last_status = :status, last_error = :error,
        done_at = case when cast(:state as text) = 'waiting' then null else :at end
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) and state = 'waiting'
""")
_LOCK_LANE = text("""
    select 1 from webhook_lanes
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid) and lane = :lane for update
""")
_LANE_AT = text("""
    update webhook_lanes set next_at = :next_at
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid) and lane = :lane
""")
_CLOSE_LANE = text("""
    delete from webhook_lanes
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid) and lane = :lane and not exists (
        select 1 from webhook_deliveries d
        where d.endpoint_id = webhook_lanes.endpoint_id and d.lane = webhook_lanes.lane and d.state = 'waiting')
""")
_DELIVERIES: Final[LiteralString] = """
    select cast(id as text) as id, entity_id, event_id, type, state, attempts, first_tried_at, last_tried_at, last_status,
           last_error, created_at, done_at
    from webhook_deliveries
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid)
"""
# Sent again it stands at the end of its lane, and under its own id: its receiver knows it for what it has had.
_REPLAY = text("""
    update webhook_deliveries
    set state = 'waiting', n = nextval(pg_get_serial_sequence('webhook_deliveries', 'n')), attempts = 0, first_tried_at = null,
        done_at = null
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid) and id = cast(:id as uuid)
      and state <> 'waiting' and body <> ''
    returning lane
""")
_SKIP = text("""
    update webhook_deliveries set state = 'failed', done_at = :at
    where account_id = cast(:account as uuid) and endpoint_id = cast(:endpoint as uuid) and id = cast(:id as uuid)
      and state = 'waiting'
    returning lane
""")
_FORGET_BATCH: Final = 5000
_FORGET = text("""
    delete from webhook_deliveries where id in (
        select id from webhook_deliveries where created_at < :before order by created_at limit :limit)
""")


async def add(tx: Tx, deliveries: Sequence[NewDelivery], at: datetime) -> None:
    """Have events delivered, in the order given, each once to an endpoint however often it is added."""
    if not deliveries:
        return
    of = [one.subscription for one in deliveries]
    where = {
        "endpoints": [one.id for one in of],
        "lanes": [one.lane for one in deliveries],
        "accounts": [one.account_id for one in of],
        "at": at,
    }
    # First, so that the order of lanes is the order of the deliveries in them: another transaction waits here.
    await tx.execute(_LANES, where)
    await tx.execute(
        _ADD,
        where
        | {
            "ids": [new_id() for _ in deliveries],
            "entities": [one.entity_id for one in deliveries],
            "events": [one.event_id for one in deliveries],
            "types": [one.type for one in deliveries],
            "bodies": [one.body for one in deliveries],
        },
    )


async def claim(
    tx: Tx, *, busy: Iterable[str], limit: int, of_one: int, at: datetime, lease: timedelta, struggles_after: int
) -> Sequence[Any]:
    """Lanes that are due (endpoint_id, lane, account_id), which nobody else looks at until the lease runs out."""
    return (
        await tx.execute(
            _CLAIM,
            {
                "busy": sorted(busy),
                "limit": limit,
                "of_one": of_one,
                "at": at,
                "until": at + lease,
                "struggles_after": struggles_after,
            },
        )
    ).all()


async def first(tx: Tx, lane: Any) -> Any | None:
    """The delivery to be tried in a claimed lane; None when nothing waits there any more, and then the lane is gone."""
    where = _lane(lane)
    row = (await tx.execute(_FIRST, where)).first()
    if row is None:
        await tx.execute(_LOCK_LANE, where)
        await tx.execute(_CLOSE_LANE, where)
    return row


async def health(tx: Tx, account_id: str, endpoint_id: str) -> tuple[Health, str] | None:
    """How an endpoint does, kept from others until the transaction ends, and its host; None when it is gone."""
    row = (await tx.execute(_HEALTH, {"account": account_id, "id": endpoint_id})).first()
    if row is None:
        return None
    found = Health(row.failures, row.failing_since, row.next_at, row.paused_at is not None)
    return found, urlsplit(row.url).hostname or ""


async def note(  # noqa: PLR0917
    tx: Tx, lane: Any, delivery_id: str, verdict: Verdict, status: int | None, error: str | None, at: datetime
) -> None:
    """Keep what became of an attempt, and what follows of it for the endpoint and the lane."""
    after = verdict.health
    where = {"account": lane.account_id, "id": lane.endpoint_id}
    await tx.execute(
        _SET_HEALTH,
        where
        | {
            "failures": after.failures,
            "failing_since": after.failing_since,
            "next_at": after.next_at,
            "paused": after.paused,
            "error": error,
            "delivered": verdict.state == "delivered",
            "at": at,
        },
    )
    told = {"account": lane.account_id, "id": delivery_id, "state": verdict.state, "status": status}
    await tx.execute(_NOTE, told | {"error": error, "at": at})
    # Locked in a statement of its own: the next one then sees whatever was added until now, so that a lane which is
    # closed is empty.
    await tx.execute(_LOCK_LANE, _lane(lane))
    await tx.execute(_LANE_AT, _lane(lane) | {"next_at": verdict.next_at})
    if verdict.state != "waiting":
        await tx.execute(_CLOSE_LANE, _lane(lane))
    if verdict.recovered:
        await all_lanes_now(tx, lane.account_id, lane.endpoint_id, at)


async def deliveries(
    tx: Tx, account_id: str, endpoint_id: str, *, state: State | None, after: str | None, limit: int
) -> Sequence[Row[Any]]:
    """What an endpoint had, or has yet to have, the newest first."""
    conditions: LiteralString = ""
    if state is not None:
        conditions += " and state = :state"
    if after is not None:
        conditions += " and id < cast(:after as uuid)"
    statement = text(_DELIVERIES + conditions + " order by id desc limit :limit")
    given = {"account": account_id, "endpoint": endpoint_id, "state": state, "after": after, "limit": limit}
    return (await tx.execute(statement, given)).all()


async def delivery(tx: Tx, account_id: str, endpoint_id: str, id_: str) -> Any | None:
    """One delivery."""
    given = {"account": account_id, "endpoint": endpoint_id, "id": id_}
    return (await tx.execute(text(_DELIVERIES + " and id = cast(:id as uuid)"), given)).first()


async def replay(tx: Tx, account_id: str, endpoint_id: str, id_: str, at: datetime) -> bool:
    """Send something again that was done with; False when it waits still, or when what it said is forgotten."""
    given = {"account": account_id, "endpoint": endpoint_id, "id": id_}
    row = (await tx.execute(_REPLAY, given)).first()
    if row is None:
        return False
    await tx.execute(_LANES, {"endpoints": [endpoint_id], "lanes": [row.lane], "accounts": [account_id], "at": at})
    return True


async def skip(tx: Tx, account_id: str, endpoint_id: str, id_: str, at: datetime) -> bool:
    """Give something up that waits; what waits behind it is tried at once. False when it does not wait."""
    given = {"account": account_id, "endpoint": endpoint_id, "id": id_, "at": at}
    row = (await tx.execute(_SKIP, given)).first()
    if row is None:
        return False
    await tx.execute(_LANE_AT, {"account": account_id, "endpoint": endpoint_id, "lane": row.lane, "next_at": at})
    return True


async def forget(tx: Tx, before: datetime) -> bool:
    """Delete what is older, a batch at most; tells whether more may be left."""
    return (await tx.execute(_FORGET, {"before": before, "limit": _FORGET_BATCH})).rowcount == _FORGET_BATCH


def _lane(lane: Any) -> dict[str, Any]:
    return {"account": lane.account_id, "endpoint": lane.endpoint_id, "lane": lane.lane}
