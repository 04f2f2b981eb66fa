"""What people and rules decide, and whether it can be."""

from relevo.assignment.domain import reasons
from relevo.assignment.domain.held import Held, Refusal
from relevo.assignment.domain.inputs import Assign, Entry
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import Agent
from relevo.assignment.domain.rules import TEAM
from relevo.contracts.assignment import Reason


def assign(pool: Pool, entry: Entry, given: Assign) -> Refusal | None:
    held = pool.held.get(given.conversation_id)
    if held is None:
        return "conversation_not_found"
    if given.expected_version is not None and given.expected_version != held.version:
        return "version_conflict"
    if given.seen_version is not None and held.hand_version > given.seen_version:
        return "hand_was_first"
    team_id = given.team_id if given.set_team else held.team_id
    team = pool.teams.get(team_id) if team_id else None
    if given.set_team and team_id and (team is None or team.deleted):
        return "team_not_found"
    new = pool.roster.agents.get(given.assignee_id) if given.assignee_id else None
    if given.assignee_id and (new is None or not new.active):
        return "agent_not_found"
    if new is not None and given.set_team and team_id and team_id not in new.team_ids:
        return "agent_not_in_team"
    old = pool.roster.agents.get(held.assignee_id) if held.assignee_id else None
    if not given.set_assignee:
        new = old if old is not None and (team_id is None or team_id in old.team_ids) else None
    _settle(pool, entry, given, held, team_id=team_id, new=new)
    return None


def _settle(pool: Pool, entry: Entry, given: Assign, held: Held, *, team_id: str | None, new: Agent | None) -> None:
    """Carry out what somebody decided, once it is known to be possible."""
    state, waits_since = held.state, held.queued_at
    nobody = given.set_assignee and new is None
    if (held.assignee_id, held.team_id) == (new.id if new else None, team_id) and (
        new is not None or state == "closed" or not nobody or (held.by_hand and state == "unassigned")
    ):
        return
    why = _hand(pool, given, team_id, new)
    if new is not None and held.offered_to == new.id:
        pool.end_offer(held, "accepted")
        new.unanswered = 0
    pool.release(held, entry)
    if given.set_team:
        held.facts = {**held.facts, TEAM: team_id}
        pool.rule_anew(held)
    held.team_id, held.queued_at, held.kept_for, held.needs = team_id, None, None, ()
    held.wait_anew()
    if state == "closed":
        held.state, held.assignee_id = "closed", new.id if new else None
        pool.decide(entry, held, "assigned" if new else "unassigned", why)
    elif new is not None:
        pool.hold(held, new, entry)
        pool.decide(entry, held, "assigned", why, since=waits_since)
    elif nobody or (held.by_hand and team_id is None):
        held.by_hand = True
        pool.decide(entry, held, "unassigned", why)
    else:
        held.by_hand = False
        pool.route(entry, held, since=waits_since or entry.at, after=why)
    if given.mode == "manual":
        held.hand_version = held.version


def _hand(pool: Pool, given: Assign, team_id: str | None, new: Agent | None) -> Reason:
    assignee_id = new.id if given.set_assignee and new else None
    assignee = new.name if given.set_assignee and new else ""
    team = pool.team_name(team_id) if given.set_team else None
    if given.mode == "automation":
        return reasons.by_rule(assignee_id, assignee, team)
    who = pool.roster.agents.get(given.actor.removeprefix("agent:"))
    return reasons.by_hand(given.actor, who.name if who else "", assignee_id, assignee, team)
