"""What becomes of conversations when people come and go, and when people and teams are edited."""

from relevo.assignment.domain import offers, reasons
from relevo.assignment.domain.held import Held, Team
from relevo.assignment.domain.inputs import AgentEdited, CapacitySet, Entry, SkillsSet, StatusGiven, TeamEdited
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import FREE
from relevo.contracts.assignment import Reason


def status_given(pool: Pool, entry: Entry, given: StatusGiven) -> None:
    agent = pool.roster.agent(given.agent_id)
    if given.sequence <= agent.presence_sequence:
        return
    agent.presence_sequence = given.sequence
    if given.state != agent.state:
        agent.left_at = given.since if given.state in ("offline", "away") else None
    if (given.state, given.since) != (agent.state, agent.state_since):
        agent.unanswered = 0
    if given.in_shift != agent.in_shift:
        agent.off_shift_at = given.since if given.in_shift is False else None
    agent.state, agent.state_since, agent.in_shift = given.state, given.since, given.in_shift
    pool.touch(agent)
    offers.withdraw(pool, entry, agent)
    for held in pool.where(lambda one: one.kept_for == agent.id and one.state == "unassigned"):
        if agent.standing(pool.terms(held)) not in FREE:
            continue
        pool.hold(held, agent, entry)
        pool.decide(entry, held, "assigned", reasons.owner(agent.name))


def agent_edited(pool: Pool, entry: Entry, given: AgentEdited) -> None:
    agent = pool.roster.agent(given.agent_id)
    if given.sequence <= agent.directory_sequence:
        return
    was_active = agent.active
    agent.directory_sequence = given.sequence
    agent.name, agent.active = given.name, given.active
    agent.team_ids = frozenset(given.team_ids)
    agent.inbox_ids = None if given.inbox_ids is None else frozenset(given.inbox_ids)
    pool.roster.moved(agent)
    pool.note(agent)
    offers.withdraw(pool, entry, agent)
    if was_active and not agent.active:
        why = reasons.agent_removed(agent.name)
        for held in pool.where(lambda one: one.state == "assigned" and one.assignee_id == agent.id):
            pool.release(held, entry)
            pool.wait(entry, held, since=entry.at, why=why)


def team_edited(pool: Pool, entry: Entry, given: TeamEdited) -> None:
    team = pool.teams.setdefault(given.team_id, Team(given.team_id))
    if given.sequence <= team.sequence:
        return
    handed_out = team.auto_assign and not team.deleted
    team.sequence, team.name = given.sequence, given.name
    team.auto_assign, team.deleted = given.auto_assign, given.deleted
    pool.changed_teams.add(team.id)
    why = reasons.team_changed(team.name, deleted=team.deleted)
    if team.deleted:
        for held in pool.where(lambda one: one.team_id == team.id and one.state != "closed"):
            _leave_team(pool, entry, held, why)
    elif team.auto_assign and not handed_out:
        for held in pool.where(
            lambda one: (
                one.team_id == team.id and one.state == "unassigned" and not one.by_hand and one.kept_for is None
            )
        ):
            pool.wait(entry, held, since=entry.at, why=why)
    elif handed_out and not team.auto_assign:
        for held in pool.where(lambda one: one.team_id == team.id and one.state in ("queued", "offered")):
            pool.release(held, entry)
            pool.lay_down(entry, held, why)


def _leave_team(pool: Pool, entry: Entry, held: Held, why: Reason) -> None:
    held.team_id = None
    if held.state == "offered":
        pool.release(held, entry)
        held.wait_anew()
    if held.state == "queued" or (held.state == "unassigned" and not held.by_hand):
        pool.wait(entry, held, since=held.queued_at or entry.at, why=why)
    else:
        pool.decide(entry, held, "assigned" if held.assignee_id else "unassigned", why)


def skills_set(pool: Pool, given: SkillsSet) -> None:
    agent = pool.roster.agent(given.agent_id)
    agent.skills = dict(given.skills)
    pool.roster.moved(agent)
    pool.note(agent)


def capacity_set(pool: Pool, given: CapacitySet) -> None:
    agent = pool.roster.agent(given.agent_id)
    agent.capacity = given.capacity
    pool.touch(agent)
