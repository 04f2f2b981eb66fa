"""What each input of a journal does to its pool."""

from collections.abc import Iterable

from relevo.assignment.domain import arriving, hands, moments, offers, people
from relevo.assignment.domain.held import Decision, Refusal
from relevo.assignment.domain.inputs import (
    AgentDue,
    AgentEdited,
    Assign,
    CapacitySet,
    Closed,
    ConversationDue,
    CustomerWaits,
    Described,
    Entry,
    OfferAnswered,
    Opened,
    PolicyEdited,
    Ranked,
    Reopened,
    SkillsSet,
    StatusGiven,
    TeamEdited,
)
from relevo.assignment.domain.pool import Pool


def apply(pool: Pool, entry: Entry) -> Refusal | None:
    """Take one input; call `drain` until it answers nothing before the next one.

    Answers why not, when the input asks for something that cannot be.
    """
    match entry.given:
        case Opened() | Reopened():
            arriving.opened(pool, entry, entry.given)
        case Closed():
            arriving.closed(pool, entry, entry.given)
        case Ranked():
            arriving.ranked(pool, entry, entry.given)
        case Described():
            arriving.described(pool, entry, entry.given)
        case StatusGiven():
            people.status_given(pool, entry, entry.given)
        case AgentEdited():
            people.agent_edited(pool, entry, entry.given)
        case TeamEdited():
            people.team_edited(pool, entry, entry.given)
        case CapacitySet():
            people.capacity_set(pool, entry.given)
        case SkillsSet():
            people.skills_set(pool, entry.given)
        case Assign():
            return hands.assign(pool, entry, entry.given)
        case OfferAnswered():
            return offers.answered(pool, entry, entry.given)
        case PolicyEdited():
            moments.policy_edited(pool, entry, entry.given)
        case CustomerWaits():
            moments.customer_waits(pool, entry, entry.given)
        case ConversationDue():
            moments.conversation_came_due(pool, entry, entry.given)
        case AgentDue():
            moments.agent_came_due(pool, entry, entry.given)
    return None


def take(pool: Pool, entry: Entry) -> Refusal | None:
    """Take one input on a pool whose queues are wholly in memory, and give what waits; answers why not, as `apply` does."""
    refusal = apply(pool, entry)
    short = pool.drain(entry)
    assert not short, f"queues {short} are not in memory"
    return refusal


def decide(pool: Pool, entries: Iterable[Entry]) -> list[Decision]:
    """Every decision that these inputs lead to on a pool whose queues are wholly in memory."""
    for entry in entries:
        take(pool, entry)
    return pool.decisions
