"""What becomes of conversations that are opened, opened again, closed or put off, and more or less urgent."""

from relevo.assignment.domain import reasons
from relevo.assignment.domain.held import Held
from relevo.assignment.domain.inputs import Closed, Described, Entry, Opened, Ranked, Reopened
from relevo.assignment.domain.pool import Pool
from relevo.assignment.domain.roster import FREE
from relevo.assignment.domain.rules import OPEN_HOURS, TEAM


def opened(pool: Pool, entry: Entry, given: Opened | Reopened) -> None:
    held = pool.held.get(given.conversation_id)
    if held is not None and given.sequence <= held.sequence:
        return
    if held is None:
        held = pool.held[given.conversation_id] = Held(
            given.conversation_id, given.inbox_id, given.channel, "unassigned", given.at, team_id=given.team_id
        )
    elif held.state != "closed":
        held.sequence = given.sequence
        pool.changed(held)
        return
    pool.of_contact(held, given.contact_id)
    put_off = isinstance(given, Reopened) and given.kept
    held.sequence, held.rank, held.opened_at = given.sequence, given.rank, given.at
    held.by_hand = held.by_hand and put_off
    watched = pool.policy.watches_answers
    held.customer_since, held.needs = given.customer_since if watched else None, ()
    held.wait_anew()
    held.notices, held.noticed_at = 0, None
    # Who began it themselves waits for the customer; what is opened again waits for people, whatever was said before.
    began = isinstance(given, Opened) and given.customer_since is None
    held.answered_at = given.at if watched and began else None
    held.facts = {**given.facts, TEAM: given.team_id}
    pool.rule_anew(held)
    held.state = "unassigned"
    if held.team_id and held.team_id in pool.teams and pool.teams[held.team_id].deleted:
        held.team_id = None
    if held.by_hand:
        pool.changed(held)
        return
    before = held.assignee_id
    last = pool.roster.agents.get(before) if before else None
    if put_off and last is not None and last.reaches(held.key) and last.has_room(pool.terms(held)):
        pool.hold(held, last, entry)
        pool.decide(entry, held, "assigned", reasons.woken(last.name))
        return
    owned = pool.policy_for(held).owner_first and held.team_id is None and pool.team_stands(given.owner_team_id)
    if owned:
        held.team_id = given.owner_team_id
    held.assignee_id = None
    pool.changed(held)
    if _to_owner(pool, entry, held, given.owner_id):
        return
    if last is not None and last.reaches(held.key) and last.standing(pool.terms(held)) in FREE:
        pool.hold(held, last, entry)
        pool.decide(entry, held, "assigned", reasons.same_agent(last.name))
        return
    if not owned:
        pool.to_team_of_rule(held)
    pool.route(entry, held, since=given.at)


def closed(pool: Pool, entry: Entry, given: Closed) -> None:
    held = pool.held.get(given.conversation_id)
    if held is None or given.sequence <= held.sequence:
        return
    held.sequence = given.sequence
    pool.changed(held)
    before, holder = held.state, held.assignee_id
    pool.release(held, entry)
    held.state, held.kept_for, held.customer_since, held.answered_at = "closed", None, None, None
    held.assignee_id = holder
    if before in ("queued", "offered"):
        held.queued_at = None
        pool.decide(entry, held, "unassigned", reasons.closed(given.why))


def described(pool: Pool, entry: Entry, given: Described) -> None:
    held = pool.held.get(given.conversation_id)
    if held is None or given.sequence <= held.sequence:
        return
    # What was so when it was opened is told by its opening, and what a person decided stands.
    kept = {name: held.facts[name] for name in (TEAM, OPEN_HOURS) if name in held.facts}
    held.sequence, held.facts = given.sequence, {**given.facts, **kept}
    pool.changed(held)
    pool.go_by_rule(entry, held)


def ranked(pool: Pool, entry: Entry, given: Ranked) -> None:
    held = pool.held.get(given.conversation_id)
    if held is None or given.sequence <= held.sequence:
        return
    held.sequence, held.rank = given.sequence, given.rank
    pool.changed(held)
    if held.state == "queued":
        pool.stand(held)
    pool.go_by_rule(entry, held)


def _to_owner(pool: Pool, entry: Entry, held: Held, owner_id: str | None) -> bool:
    """To the owner of its contact, or aside until they are there, as the policy says; tells whether that was done."""
    policy = pool.policy_for(held)
    owner = pool.roster.agents.get(owner_id) if owner_id and policy.owner_first else None
    if owner is None or not owner.reaches(held.key):
        return False
    standing = owner.standing(pool.terms(held))
    if standing in FREE:
        pool.hold(held, owner, entry)
        pool.decide(entry, held, "assigned", reasons.owner(owner.name))
        return True
    if standing in ("offline", "away", "off_shift") and policy.owner_absent == "wait":
        held.kept_for = owner.id
        pool.lay_down(entry, held, reasons.owner_absent(owner.name))
        held.held_since = entry.at
        return True
    return False
