"""What becomes of offers: they are taken, declined, let pass, or withdrawn; and when time is up for one.

An offer stands until an input of the journal ends it. So of an answer and the end of its time, and of an answer and what
somebody else decides, the one that was written down first counts, and an answer that comes late, while whatever ends
offers was down, counts still.
"""

from datetime import datetime

from relevo.assignment.domain import overflow, reasons
from relevo.assignment.domain.held import Held, Refusal
from relevo.assignment.domain.inputs import Entry, OfferAnswered
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent
from relevo.contracts.assignment import Reason


def answered(pool: Pool, entry: Entry, given: OfferAnswered) -> Refusal | None:
    held = pool.held.get(given.conversation_id)
    if held is None:
        return "conversation_not_found"
    if held.state == "assigned" and held.assignee_id == given.agent_id and given.accepted:
        return None  # asked for twice
    if held.state != "offered" or held.offered_to != given.agent_id:
        return "no_offer"
    agent = pool.end_offer(held, "accepted" if given.accepted else "declined", given.why)
    agent.unanswered = 0
    pool.touch(agent)
    if given.accepted:
        why, since, needs = reasons.accepted(agent.name, held.reason), held.queued_at, held.needs
        pool.hold(held, agent, entry)
        pool.decide(entry, held, "assigned", why, since=since, needs=needs)
    else:
        held.declined = tuple(sorted({*held.declined, agent.id}))
        _go_on(pool, entry, held, reasons.declined(agent.name, given.why))
    return None


def due(_: Pool, held: Held) -> datetime | None:
    """When the time of its offer is up; None: it is not offered."""
    return held.offered_until if held.state == "offered" else None


def let_pass(pool: Pool, entry: Entry, held: Held) -> None:
    """Nobody answered in time: it goes to somebody else who is free, where there is anybody; else it waits for all of them."""
    assert held.offered_until is not None
    assert held.offered_at is not None
    stood = held.offered_until - held.offered_at
    agent = pool.end_offer(held, "timed_out")
    agent.unanswered += 1
    pool.touch(agent)
    _go_on(pool, entry, held, reasons.let_pass(agent.name, stood), without=agent)


def withdraw(pool: Pool, entry: Entry, agent: Agent) -> None:
    """Offers that the agent cannot take any more, because they have gone or no longer work on such ones, go to others."""
    if not agent.offered:
        return
    for held in pool.where(lambda one: one.offered_to == agent.id):
        hindrance = next(agent.hindrances(pool.terms(held)), None)
        if hindrance in ("offline", "away", "off_shift") or not agent.reaches(held.key):
            pool.end_offer(held, "withdrawn")
            _go_on(pool, entry, held, reasons.withdrawn(agent.name))


def _go_on(pool: Pool, entry: Entry, held: Held, why: Reason, *, without: Agent | None = None) -> None:
    if not overflow.flow(pool, entry, held, after=why):
        pool.go_on(entry, held, why, without=without)
