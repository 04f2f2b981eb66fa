"""What has waited with a team for too long becomes another team's, or anybody's."""

from datetime import datetime, timedelta

from relevo.assignment.domain import reasons
from relevo.assignment.domain.held import Held, Team
from relevo.assignment.domain.inputs import Entry
from relevo.assignment.domain.pool import Pool
from relevo.contracts.assignment import Reason


def due(pool: Pool, held: Held) -> datetime | None:
    """When it goes on from the team in whose queue it waits, as things are; None: never, or it waits in none."""
    flows = _flows(pool, held) if held.state == "queued" else None
    return None if flows is None else flows[1]


def flow(pool: Pool, entry: Entry, held: Held, *, after: Reason | None = None) -> bool:
    """To the next team, where it has waited for long enough in the queue, or in offers; tells whether it has.

    `after`: what just ended.
    """
    flows = _flows(pool, held)
    if flows is None or held.queued_at is None or flows[1] > entry.at:
        return False
    team, at = flows
    waited = at - (held.held_since or held.queued_at)
    why = reasons.overflowed(waited, pool.team_name(held.team_id), team.name if team else None)
    held.team_id = team.id if team else None
    held.wait_anew()
    pool.wait(entry, held, since=held.queued_at, why=reasons.joined(after, why))
    return True


def _flows(pool: Pool, held: Held) -> tuple[Team | None, datetime] | None:
    """To which team (None: to anybody), and when."""
    if held.queued_at is None:
        return None
    for one in pool.policy.overflow:
        if one.team_id == held.team_id and (one.to_team_id is None or pool.team_stands(one.to_team_id)):
            since = held.held_since or held.queued_at
            to = None if one.to_team_id is None else pool.teams[one.to_team_id]
            return to, since + timedelta(seconds=one.after_seconds)
    return None
