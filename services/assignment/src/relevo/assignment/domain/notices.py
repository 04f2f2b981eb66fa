"""When customers who wait in the queue are told how long they will."""

from datetime import datetime, timedelta

from relevo.assignment.domain.held import Held
from relevo.assignment.domain.inputs import Entry
from relevo.assignment.domain.pool import Pool


def due(pool: Pool, held: Held) -> datetime | None:
    """When its customer is told, as things are; None: not at all, or as often as the policy says already.

    After an outage once, and the next time as long after that as ever.
    """
    notice = pool.policy.waiting_notice
    if notice is None or held.state != "queued" or held.queued_at is None or held.customer_since is None:
        return None
    if held.noticed_at is None:
        return max(held.queued_at, held.customer_since) + timedelta(seconds=notice.after_seconds)
    if notice.every_seconds is None or held.notices >= notice.most:
        return None
    return held.noticed_at + timedelta(seconds=notice.every_seconds)


def tell(pool: Pool, entry: Entry, held: Held) -> None:
    """Have them told, if it is time."""
    at = due(pool, held)
    if at is None or at > entry.at:
        return
    held.notices, held.noticed_at = held.notices + 1, entry.at
    pool.to_tell.add(held.id)
    pool.changed_held.add(held.id)
