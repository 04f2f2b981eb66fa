"""SQL of the waits of rules."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Wait:
    """What is to be done at ``due_at``: the rest of an execution's steps. ``enabled``: whether its rule still is."""

    id: str
    account_id: str
    rule_id: str
    conversation_id: str
    unless: str
    due_at: datetime
    run: dict[str, Any]
    steps: list[dict[str, Any]]
    enabled: bool = True


_ADD = text("""
    insert into rule_waits (id, account_id, rule_id, conversation_id, unless, due_at, run, steps)
    select id, account_id, rule_id, conversation_id, unless, due_at, cast(run as jsonb), cast(steps as jsonb)
    from unnest(cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:rules as uuid[]), cast(:conversations as uuid[]),
                cast(:unless as text[]), cast(:dues as timestamptz[]), cast(:runs as text[]), cast(:steps as text[]))
        as w(id, account_id, rule_id, conversation_id, unless, due_at, run, steps)
    on conflict (id) do update
        set unless = excluded.unless, due_at = excluded.due_at, run = excluded.run, steps = excluded.steps
""")
_TAKE = text("""
    delete from rule_waits w where w.account_id = any(cast(:accounts as uuid[])) and w.id = any(cast(:ids as uuid[]))
    returning cast(w.id as text) as id, cast(w.account_id as text) as account_id, cast(w.rule_id as text) as rule_id,
              cast(w.conversation_id as text) as conversation_id, w.unless, w.due_at, w.run, w.steps,
              exists (select 1 from rules r where r.id = w.rule_id and r.account_id = w.account_id and r.enabled) as enabled
""")
_DROP = text("""
    delete from rule_waits w
    using unnest(cast(:conversations as uuid[]), cast(:unless as text[])) as m(conversation_id, unless)
    where w.account_id = any(cast(:accounts as uuid[])) and w.conversation_id = m.conversation_id and w.unless = m.unless
    returning cast(w.id as text)
""")
_BUSY = text("""
    select distinct cast(rule_id as text) as rule_id, cast(conversation_id as text) as conversation_id from rule_waits
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:conversations as uuid[]))
""")
_END = text("""
    update executions set outcome = :outcome
    where account_id = any(cast(:accounts as uuid[])) and id = any(cast(:ids as uuid[]))
""")


async def add(tx: Tx, waits: Sequence[Wait]) -> None:
    """Keep waits; the next one of an execution takes the place of the last."""
    await tx.execute(
        _ADD,
        {
            "ids": [one.id for one in waits],
            "accounts": [one.account_id for one in waits],
            "rules": [one.rule_id for one in waits],
            "conversations": [one.conversation_id for one in waits],
            "unless": [one.unless for one in waits],
            "dues": [one.due_at for one in waits],
            "runs": [json.dumps(one.run) for one in waits],
            "steps": [json.dumps(one.steps) for one in waits],
        },
    )


async def take(tx: Tx, accounts: Collection[str], ids: Collection[str]) -> list[Wait]:
    """Take these waits away, in the order in which they were due; one that was made moot is not there."""
    rows = await tx.execute(_TAKE, {"accounts": sorted(accounts), "ids": sorted(ids)})
    return sorted((Wait(**row._asdict()) for row in rows), key=lambda one: (one.due_at, one.id))


async def drop(tx: Tx, accounts: Iterable[str], reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Take away the waits of these conversations that wait for this; answers their ids."""
    pairs = sorted(set(reasons))
    if not pairs:
        return []
    given = {
        "accounts": sorted(accounts),
        "conversations": [conversation for conversation, _ in pairs],
        "unless": [unless for _, unless in pairs],
    }
    return list((await tx.execute(_DROP, given)).scalars())


async def busy(tx: Tx, accounts: Iterable[str], conversations: Iterable[str]) -> set[tuple[str, str]]:
    """The pairs of rule and conversation where the rule waits."""
    given = {"accounts": sorted(accounts), "conversations": sorted(set(conversations))}
    return {(row.rule_id, row.conversation_id) for row in await tx.execute(_BUSY, given)}


async def end(tx: Tx, accounts: Iterable[str], ids: Sequence[str], outcome: str) -> None:
    """Say what became of executions."""
    if ids:
        await tx.execute(_END, {"accounts": sorted(accounts), "ids": list(ids), "outcome": outcome})
