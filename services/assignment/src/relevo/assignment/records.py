"""What is read to explain a decision: its record, and what agents and the policy were then."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from relevo.assignment.domain import explaining
from relevo.assignment.domain.policy import Policy, read
from relevo.assignment.domain.roster import Agent
from relevo.assignment.domain.skills import Needs, needs_of
from relevo.chassis.database import Tx
from relevo.contracts.assignment import Reason

_RECORD = text("""
    select d.version, d.run, d.step, d.kind, d.mode, d.reason, d.rule, cast(d.assignee_id as text) as assignee_id,
           a.name as assignee_name, cast(d.from_assignee_id as text) as from_assignee_id, b.name as from_assignee_name,
           cast(d.team_id as text) as team_id, d.waited_seconds, d.policy_version, d.created_at, cast(d.passed as text[]) as passed, d.needs,
           cast(d.declined as text[]) as declined, cast(d.offered_to as text) as offered_to, o.name as offered_to_name,
           cast(d.runners_up as text[]) as runners_up,
           array(select n.name from unnest(d.runners_up) with ordinality as r (id, place)
                 join agents n on n.agent_id = r.id order by r.place) as runners_up_names
    from decisions d
    left join agents a on a.agent_id = d.assignee_id
    left join agents b on b.agent_id = d.from_assignee_id
    left join agents o on o.agent_id = d.offered_to
    where d.account_id = cast(:account as uuid) and d.conversation_id = cast(:conversation as uuid)
      and d.version = coalesce(cast(:version as bigint), (
          select max(version) from decisions
          where account_id = cast(:account as uuid) and conversation_id = cast(:conversation as uuid)))
""")

_AGENT_THEN = text("""
    select cast(t.agent_id as text) as id, a.name, t.active, t.state, t.in_shift, t.capacity, t.load, t.extra,
           cast(t.team_ids as text[]) as team_ids, cast(t.inbox_ids as text[]) as inbox_ids, t.given, t.skills, t.offered, t.unanswered
    from agents_then t join agents a on a.agent_id = t.agent_id
    where t.account_id = cast(:account as uuid) and t.agent_id = cast(:agent as uuid) and (t.run, t.step) <= (:run, :step)
    order by t.run desc, t.step desc limit 1
""")

_POLICY_THEN = text("""
    select payload -> 'policy' as policy from journal
    where account_id = cast(:account as uuid) and kind = 'policy' and done_at is not null and error is null
      and cast(payload -> 'policy' ->> 'version' as bigint) = :version
    order by id desc limit 1
""")

_AGENT_NAME = text("""
    select name from agents where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
""")


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and where in the life of its pool it stands; `step` None: what agents were was not kept yet."""

    record: explaining.Record
    version: int
    at: datetime
    team_id: str | None
    passed: tuple[str, ...]
    needs: Needs
    run: int
    step: int | None


async def decided(tx: Tx, account_id: str, conversation_id: str, version: int | None) -> Decided | None:
    """A decision on a conversation, by its version; the last one for None. None when there is none."""
    given = {"account": account_id, "conversation": conversation_id, "version": version}
    row = (await tx.execute(_RECORD, given)).first()
    if row is None:
        return None
    record = explaining.Record(
        kind=row.kind,
        mode=row.mode,
        reason=Reason.model_construct(**row.reason),
        assignee_id=row.assignee_id,
        assignee_name=row.assignee_name or "",
        from_assignee_id=row.from_assignee_id,
        from_assignee_name=row.from_assignee_name or "",
        runners_up=dict(zip(row.runners_up, row.runners_up_names, strict=True)),
        waited_seconds=row.waited_seconds,
        policy_version=row.policy_version,
        rule=row.rule,
        offered_to=row.offered_to,
        offered_to_name=row.offered_to_name or "",
        declined=frozenset(row.declined),
    )
    return Decided(
        record, row.version, row.created_at, row.team_id, tuple(row.passed), needs_of(row.needs), row.run, row.step
    )


async def agent_then(tx: Tx, account_id: str, agent_id: str, run: int, step: int) -> Agent | None:
    """What an agent was before a decision. None: nobody knew of them yet."""
    given = {"account": account_id, "agent": agent_id, "run": run, "step": step}
    row = (await tx.execute(_AGENT_THEN, given)).mappings().first()
    if row is None:
        return None
    inboxes = row["inbox_ids"]
    sets = {
        "team_ids": frozenset(row["team_ids"]),
        "inbox_ids": None if inboxes is None else frozenset(inboxes),
        "given": tuple(row["given"] or ()),
        "skills": row["skills"] or {},
    }
    return Agent(**{**row, **sets})


async def agent_name(tx: Tx, account_id: str, agent_id: str) -> str | None:
    """The name of an agent of the account, also of one that is gone. None when there is none."""
    row = (await tx.execute(_AGENT_NAME, {"account": account_id, "agent": agent_id})).first()
    return None if row is None else str(row.name)


async def policy_then(tx: Tx, account_id: str, version: int) -> Policy:
    """A version of the account's policy; the default one before anybody edited it."""
    row = (await tx.execute(_POLICY_THEN, {"account": account_id, "version": version})).first()
    return Policy() if row is None else read(row.policy)
