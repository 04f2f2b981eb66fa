"""What time alone does: conversations are taken back from who has gone, or lets their customer wait; and weigh less
once they have waited for their customer for so long.

Nothing here looks at a clock. When something is due is told of what has changed (`dues`); the service has an input
written into the journal at that moment, and whether it is due then is decided by the time of that input, like
everything else. An input that comes too early, or twice, changes nothing.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from relevo.assignment.domain import notices, offers, overflow, reasons, skills
from relevo.assignment.domain.held import Held, Team
from relevo.assignment.domain.inputs import AgentDue, ConversationDue, CustomerWaits, Entry, PolicyEdited
from relevo.assignment.domain.policy import Lighter, Policy, TakeBack
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent
from relevo.assignment.domain.units import UNIT

HIGHEST_RANK = 3


def dues(pool: Pool) -> Iterator[tuple[ConversationDue | AgentDue, datetime]]:
    """What is to be looked at again, and when, of all that was changed."""
    conversations, agents = pool.due_anew
    for one in sorted(conversations | pool.changed_held):
        held = pool.held.get(one)
        at = None if held is None else min(_of_held(pool, held), default=None)
        if at is not None:
            yield ConversationDue(one), at
    for one in sorted(agents | pool.changed_agents):
        at = min(_of_agent(pool.roster.agents[one], pool.policy), default=None)
        if at is not None:
            yield AgentDue(one), at


def _of_held(pool: Pool, held: Held) -> Iterator[datetime]:
    """When anything at all is to be done about it, as things are."""
    yield from (at for _, at in _of_conversation(pool, held))
    for due in (overflow.due, offers.due, notices.due, _widens, _lightens, _owner_waited_for):
        if (at := due(pool, held)) is not None:
            yield at


def _of_conversation(pool: Pool, held: Held) -> Iterator[tuple[TakeBack, datetime]]:
    """Why and when it is taken back, as things are: unanswered, or given to its holder while they were gone."""
    if held.state != "assigned" or held.assignee_id is None:
        return
    since = held.customer_since
    for back in pool.policy.taken_back:
        if back.cause == "unanswered" and since is not None and (_to(pool, held, back) or _others(pool, held)):
            yield back, max(since, held.held_since or since) + _after(back)
    for back, gone in _absences(pool.roster.agents[held.assignee_id], pool.policy):
        if not _left(held, gone):
            yield back, (held.held_since or gone) + _after(back)


def _owner_waited_for(pool: Pool, held: Held) -> datetime | None:
    """Until when it lies there for its contact's owner, as things are; None: it does not, or for as long as it takes."""
    if held.state != "unassigned" or held.kept_for is None:
        return None
    seconds = pool.policy_for(held).owner_wait_seconds
    return None if seconds is None else (held.held_since or held.opened_at) + timedelta(seconds=seconds)


def _widens(pool: Pool, held: Held) -> datetime | None:
    """When less is needed of whoever gets it, as things are; None: never, or it waits for nobody."""
    if held.state != "queued" or held.queued_at is None:
        return None
    after = skills.next_ring(pool.policy.ladder(held.rule), held.needs)
    return None if after is None else held.queued_at + timedelta(seconds=after)


def _lightens(pool: Pool, held: Held) -> datetime | None:
    """When it takes less of its holder, as things are; None: never, or it does already."""
    less = pool.policy.lighter
    if less is None or held.state != "assigned" or held.answered_at is None:
        return None
    if held.weight == _light(pool, held, less):
        return None
    return max(held.answered_at, held.held_since or held.answered_at) + timedelta(seconds=less.after_seconds)


def _light(pool: Pool, held: Held, less: Lighter) -> int:
    """What is left of its weight, rounded up."""
    return -(-pool.policy.weight(held.channel) * less.share // UNIT)


def _weigh_anew(pool: Pool, held: Held, at: datetime) -> None:
    """What it takes of its holder at this moment."""
    if held.state != "assigned":
        return
    less, weight = pool.policy.lighter, pool.policy.weight(held.channel)
    if less is not None and held.answered_at is not None:
        since = max(held.answered_at, held.held_since or held.answered_at)
        if since + timedelta(seconds=less.after_seconds) <= at:
            weight = _light(pool, held, less)
    pool.weigh(held, weight)


def _of_agent(agent: Agent, policy: Policy) -> Iterator[datetime]:
    """When what the agent left behind is taken back, and when they may be given one again, as things are."""
    if agent.load:
        for back, gone in _absences(agent, policy):
            yield gone + _after(back)
    if policy.pace is not None and policy.pace.full(agent.given):
        yield agent.given[0] + timedelta(seconds=policy.pace.within_seconds)


def _pace_anew(pool: Pool, agent: Agent, at: datetime) -> None:
    """What of their pace has passed counts no more."""
    pace = pool.policy.pace
    kept = pace.kept(agent.given, at) if pace is not None else ()
    if kept != agent.given:
        agent.given = kept
        pool.touch(agent)


def _left(held: Held, gone: datetime) -> bool:
    """Whether its holder had it when they went."""
    return held.held_since is None or held.held_since <= gone


def _absences(agent: Agent, policy: Policy) -> Iterator[tuple[TakeBack, datetime]]:
    """Why what the agent holds is taken back, and since when that holds."""
    for back in policy.taken_back:
        if back.cause == "off_shift":
            since = agent.off_shift_at if agent.in_shift is False and not policy.out_of_shift else None
        else:
            since = agent.left_at if agent.state == back.cause else None
        if since is not None:
            yield back, since


def _after(back: TakeBack) -> timedelta:
    return timedelta(seconds=back.after_seconds)


def customer_waits(pool: Pool, entry: Entry, given: CustomerWaits) -> None:
    held = pool.held.get(given.conversation_id)
    if held is None or held.state == "closed" or given.sequence <= held.sequence:
        return
    held.sequence, held.customer_since = given.sequence, given.since
    if given.since is None and held.state == "assigned":
        held.passed = ()
    held.answered_at = None if given.since is not None else held.answered_at or entry.at
    _weigh_anew(pool, held, entry.at)
    pool.changed_held.add(held.id)


def conversation_came_due(pool: Pool, entry: Entry, given: ConversationDue) -> None:
    held = pool.held.get(given.conversation_id)
    if held is None:
        return
    pool.due_anew[0].add(held.id)
    _weigh_anew(pool, held, entry.at)
    notices.tell(pool, entry, held)
    ends = offers.due(pool, held)
    if ends is not None and ends <= entry.at:
        offers.let_pass(pool, entry, held)
        return
    if held.state == "queued" and overflow.flow(pool, entry, held):
        return
    widens = _widens(pool, held)
    if widens is not None and held.queued_at is not None and widens <= entry.at:
        before = held.needs
        pool.need_anew(held, held.queued_at, entry.at)
        pool.ask_otherwise(entry, held, reasons.widened(entry.at - held.queued_at, before, held.needs))
        return
    gives_up = _owner_waited_for(pool, held)
    if gives_up is not None and gives_up <= entry.at:
        since = held.held_since or held.opened_at
        why = reasons.owner_waited_for(pool.roster.agent(held.kept_for or "").name, (gives_up - since).total_seconds())
        held.kept_for = None
        pool.to_team_of_rule(held)
        pool.route(entry, held, since=held.opened_at, after=why)
        return
    for back, at in list(_of_conversation(pool, held)):
        if at <= entry.at:
            holder = pool.roster.agents[held.assignee_id or ""]
            if back.cause == "unanswered":
                held.passed = _others(pool, held) or ()
            _take_back(pool, entry, held, back, holder)
            return


def _others(pool: Pool, held: Held) -> tuple[str, ...] | None:
    """Who is passed over when it goes to the next one: whoever let it lie. None: nobody else works on it."""
    passed = tuple(sorted({*held.passed, held.assignee_id or ""}))
    key = held.key._replace(passed=passed)
    return passed if any(agent.reaches(key) for agent in pool.roster.agents.values()) else None


def agent_came_due(pool: Pool, entry: Entry, given: AgentDue) -> None:
    agent = pool.roster.agents.get(given.agent_id)
    if agent is None:
        return
    _pace_anew(pool, agent, entry.at)
    for back, gone in _absences(agent, pool.policy):
        if gone + _after(back) <= entry.at:
            mine = pool.where(lambda one: one.state == "assigned" and one.assignee_id == agent.id)
            for held in (one for one in mine if _left(one, gone)):
                _take_back(pool, entry, held, back, agent)
            return
    pool.due_anew[1].add(agent.id)


def _to(pool: Pool, held: Held, back: TakeBack) -> Team | None:
    """The team that gets what is taken back; None: the queue does."""
    team = pool.teams.get(back.team_id or "") if back.to == "team" else None
    return team if team is not None and not team.deleted and held.team_id != team.id else None


def _take_back(pool: Pool, entry: Entry, held: Held, back: TakeBack, holder: Agent) -> None:
    team = _to(pool, held, back)
    pool.release(held, entry)
    if team is not None:
        held.team_id = team.id
        held.wait_anew()
    if back.raise_priority:
        held.rank = min(held.rank + 1, HIGHEST_RANK)
    # Whoever waits for an answer has waited since they asked, not since somebody let it lie.
    since = min(held.customer_since or entry.at, entry.at)
    pool.wait(entry, held, since=since, why=reasons.taken_back(back, holder.name, team.name if team else None))


def policy_edited(pool: Pool, entry: Entry, given: PolicyEdited) -> None:
    """Another policy from here on; where its times or weights are others, all that is open is looked at anew."""
    before = pool.policy
    if given.policy.strategy == "longest_idle" != before.strategy:
        # Idle since then, or since they came: what left them before was not kept in every pool.
        for agent in pool.roster.agents.values():
            if agent.released_at is not None:
                agent.released_at = None
                pool.note(agent)
    pool.roster.govern(given.policy)
    if before.pace != given.policy.pace:
        for agent in pool.roster.agents.values():
            _pace_anew(pool, agent, entry.at)
            pool.due_anew[1].add(agent.id)
    if before.same_for_open(given.policy):
        return
    if before.priority_worth_seconds != given.policy.priority_worth_seconds:
        pool.stand_anew()
    conversations, agents = pool.due_anew
    for held in pool.held.values():
        if held.state == "closed":
            continue
        conversations.add(held.id)
        if not given.policy.watches_answers and (held.customer_since or held.answered_at) is not None:
            held.customer_since = held.answered_at = None
            pool.changed_held.add(held.id)
        _weigh_anew(pool, held, entry.at)
    agents.update(pool.roster.agents)
    # Once all is weighed, and in one order: what is moved is decided on.
    for held in pool.where(lambda one: one.state != "closed"):
        pool.go_by_rule(entry, held)
