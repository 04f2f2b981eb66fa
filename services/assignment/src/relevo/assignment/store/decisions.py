"""SQL of the decisions that are kept."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from relevo.assignment.domain.held import Decision
from relevo.chassis.database import Tx

_SAVE_DECISIONS = text("""
    insert into decisions (id, account_id, conversation_id, version, journal_id, run, step, policy_version, kind, mode,
        actor, assignee_id, team_id, from_assignee_id, from_team_id, reason, candidates, excluded, runners_up, passed,
        rule, needs, queued_at, waited_seconds, created_at, declined, offered_to, offered_until, ended_offer)
    select id, cast(:account as uuid), conversation_id, version, journal_id, :run, step, policy_version, kind, mode,
        actor, assignee_id, team_id, from_assignee_id, from_team_id, reason, candidates, excluded, runners_up, passed,
        rule, needs, queued_at, waited_seconds, created_at, declined, offered_to, offered_until, ended_offer
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (id uuid, conversation_id uuid, version bigint, step integer,
        journal_id bigint, policy_version bigint, kind text, mode text, actor text, assignee_id uuid, team_id uuid,
        from_assignee_id uuid, from_team_id uuid, reason jsonb, candidates integer, excluded jsonb, runners_up uuid[], passed uuid[],
        rule text, needs jsonb, queued_at timestamptz, waited_seconds double precision, created_at timestamptz,
        declined uuid[], offered_to uuid, offered_until timestamptz, ended_offer jsonb)
""")


async def save_decisions(tx: Tx, account_id: str, run: int, made: Sequence[tuple[str, Decision]]) -> None:
    """Keep decisions, each with its id."""
    rows = [
        {
            "id": decision_id,
            "conversation_id": one.conversation_id,
            "version": one.version,
            "step": step,
            "journal_id": one.entry.id,
            "policy_version": one.policy_version,
            "kind": one.kind,
            "mode": one.mode,
            "actor": one.actor,
            "assignee_id": one.assignee_id,
            "team_id": one.team_id,
            "from_assignee_id": one.from_assignee_id,
            "from_team_id": one.from_team_id,
            "reason": dict(one.reason),
            "candidates": one.candidates,
            "excluded": dict(one.excluded),
            "runners_up": list(one.runners_up),
            "passed": list(one.passed),
            "rule": one.rule,
            "needs": dict(one.needs),
            "queued_at": one.queued_at,
            "waited_seconds": one.waited_seconds,
            "created_at": one.entry.at,
            "declined": list(one.declined),
            "offered_to": one.offered_to,
            "offered_until": one.offered_until,
            "ended_offer": None if one.ended is None else one.ended._asdict(),
        }
        for step, (decision_id, one) in enumerate(made)
    ]
    if rows:
        await tx.execute(
            _SAVE_DECISIONS, {"account": account_id, "run": run, "rows": json.dumps(rows, default=datetime.isoformat)}
        )
