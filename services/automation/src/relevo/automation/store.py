"""All SQL of automation."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Row, text

from relevo.automation.domain.rules import FIRED, Execution, Outcome, Rule, compile_rule
from relevo.automation.domain.triggers import Trigger
from relevo.chassis.database import Tx
from relevo.kernel.conditions import ConditionError

UNUSABLE: Final = (ConditionError, ValidationError, KeyError)
"""What a rule raises that cannot be judged."""


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it is kept; conditions and actions are parsed JSON."""

    id: str
    account_id: str
    name: str
    trigger: Trigger
    conditions: Any
    actions: Any
    inbox_ids: tuple[str, ...]
    on_automated: bool
    enabled: bool
    position: int
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str
    schedule: Any = None
    absence: Any = None

    def compiled(self) -> Rule:
        """The rule ready to be judged. Raises one of UNUSABLE: an older release's may be."""
        return compile_rule(
            id=self.id,
            version=self.version,
            name=self.name,
            trigger=self.trigger,
            conditions=self.conditions,
            actions=self.actions,
            inbox_ids=self.inbox_ids,
            on_automated=self.on_automated,
        )


_COLUMNS = """
    cast(id as text) as id, cast(account_id as text) as account_id, name, trigger, conditions, actions, inbox_ids,
    on_automated, enabled, position, version, created_at, updated_at, updated_by, schedule,
    absence
"""
_VERSIONS = text("""
    select cast(account_id as text) as account_id, version,
           exists (select 1 from rule_waits w where w.account_id = s.account_id) as waits
    from rule_sets s where account_id = any(cast(:accounts as uuid[]))
""")
_ENABLED = text(f"""
    select {_COLUMNS} from rules where account_id = any(cast(:accounts as uuid[])) and enabled order by position, id
""")
_BUMP = text("""
    insert into rule_sets (account_id, version) values (cast(:account as uuid), 1)
    on conflict (account_id) do update set version = rule_sets.version + 1
""")
_LIST = text(f"""
    select {_COLUMNS} from rules
    where account_id = cast(:account as uuid)
      and (cast(:position as integer) is null or (position, id) > (cast(:position as integer), cast(:id as uuid)))
    order by position, id limit :limit
""")
_READ = text(f"select {_COLUMNS} from rules where account_id = cast(:account as uuid) and id = cast(:id as uuid)")
_LOCK = text(f"""
    select {_COLUMNS} from rules where account_id = cast(:account as uuid) and id = cast(:id as uuid) for update
""")
_INSERT = text("""
    insert into rules (id, account_id, name, trigger, conditions, actions, inbox_ids, on_automated, enabled, position,
                       version, created_at, updated_at, updated_by, schedule, absence)
    values (cast(:id as uuid), cast(:account_id as uuid), :name, :trigger, cast(:conditions as jsonb),
            cast(:actions as jsonb), cast(:inbox_ids as jsonb), :on_automated, :enabled, :position,
            :version, :created_at, :updated_at, :updated_by, cast(:schedule as jsonb), cast(:absence as jsonb))
""")
_UPDATE = text("""
    update rules set name = :name, trigger = :trigger, conditions = cast(:conditions as jsonb),
        actions = cast(:actions as jsonb), inbox_ids = cast(:inbox_ids as jsonb), on_automated = :on_automated,
        enabled = :enabled, position = :position, version = :version, updated_at = :updated_at,
        updated_by = :updated_by, schedule = cast(:schedule as jsonb),
        absence = cast(:absence as jsonb)
    where account_id = cast(:account_id as uuid) and id = cast(:id as uuid)
""")
_ALL = text(f"select {_COLUMNS} from rules where account_id = cast(:account as uuid) order by id for update")
_SCHEDULED = text(f"""
    select {_COLUMNS} from rules
    where account_id = any(cast(:accounts as uuid[])) and id = any(cast(:ids as uuid[])) and enabled
      and schedule is not null
""")
_ON_ABSENCE = text(f"""
    select {_COLUMNS}, absence_asked_since from rules
    where account_id = any(cast(:accounts as uuid[])) and enabled and absence is not null
      and (cast(:only as uuid) is null or id = cast(:only as uuid)) order by id for update
""")
_ABSENCES_ASKED = text("""
    update rules set absence_asked_since = n.since
    from unnest(cast(:ids as uuid[]), cast(:sinces as timestamptz[])) as n (id, since)
    where rules.account_id = any(cast(:accounts as uuid[])) and rules.id = n.id
""")
_DELETE = text("delete from rules where account_id = cast(:account as uuid) and id = cast(:id as uuid)")
_RECORD = text("""
    insert into executions (id, account_id, rule_id, rule_version, rule_name, event_id, event_type, conversation_id,
                            outcome, actions, happened_at, created_at)
    select id, account_id, rule_id, rule_version, rule_name, event_id, event_type, conversation_id, outcome,
           cast(actions as jsonb), happened_at, cast(:now as timestamptz)
    from unnest(cast(:id as uuid[]), cast(:account_id as uuid[]), cast(:rule_id as uuid[]),
                cast(:rule_version as integer[]), cast(:rule_name as text[]), cast(:event_id as uuid[]),
                cast(:event_type as text[]), cast(:conversation_id as uuid[]), cast(:outcome as text[]),
                cast(:actions as text[]), cast(:happened_at as timestamptz[]))
        as e(id, account_id, rule_id, rule_version, rule_name, event_id, event_type, conversation_id, outcome, actions,
             happened_at)
    on conflict do nothing
    returning cast(id as text)
""")
# Nothing is recorded before it happens, so that the index by time of recording leaves out what is long past.
_FIRED = text("""
    select cast(e.rule_id as text) as rule_id, cast(e.conversation_id as text) as conversation_id, e.happened_at
    from unnest(cast(:rules as uuid[]), cast(:conversations as uuid[])) as k(rule_id, conversation_id)
    join executions e on e.conversation_id = k.conversation_id and e.rule_id = k.rule_id
    where e.account_id = any(cast(:accounts as uuid[])) and e.created_at >= cast(:since as timestamptz)
      and e.happened_at >= cast(:since as timestamptz) and e.outcome = any(cast(:outcomes as text[]))
      and e.event_id <> all(cast(:events as uuid[]))
""")
_EXECUTIONS = text("""
    select cast(id as text) as id, cast(rule_id as text) as rule_id, rule_version, rule_name,
           cast(event_id as text) as event_id, event_type, cast(conversation_id as text) as conversation_id,
           outcome, actions, created_at
    from executions
    where account_id = cast(:account as uuid)
      and (cast(:conversation_id as uuid) is null or conversation_id = cast(:conversation_id as uuid))
      and (cast(:rule_id as uuid) is null or rule_id = cast(:rule_id as uuid))
      and (cast(:outcome as text) is null or outcome = cast(:outcome as text))
      and (cast(:since as timestamptz) is null or created_at >= cast(:since as timestamptz))
      and (cast(:until as timestamptz) is null or created_at < cast(:until as timestamptz))
      and (cast(:at as timestamptz) is null or (created_at, id) < (cast(:at as timestamptz), cast(:id as uuid)))
    order by created_at desc, id desc limit :limit
""")


async def versions(tx: Tx, accounts: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """The version of each account's set of rules, and whether any waits; accounts that never had a rule are missing."""
    rows = await tx.execute(_VERSIONS, {"accounts": sorted(accounts)})
    return {row.account_id: (row.version, row.waits) for row in rows}


async def enabled_rules(tx: Tx, accounts: Iterable[str]) -> list[StoredRule]:
    """The enabled rules of these accounts, each account's in their order."""
    return [_rule(row) for row in await tx.execute(_ENABLED, {"accounts": sorted(accounts)})]


async def list_rules(tx: Tx, account_id: str, *, after: tuple[int, str] | None, limit: int) -> list[StoredRule]:
    """An account's rules in their order, from after a (position, id) on."""
    position, rule_id = after or (None, None)
    rows = await tx.execute(_LIST, {"account": account_id, "position": position, "id": rule_id, "limit": limit})
    return [_rule(row) for row in rows]


async def read_rule(tx: Tx, account_id: str, rule_id: str, *, lock: bool = False) -> StoredRule | None:
    """One rule of the account, None when there is none; `lock` keeps others from changing it in the meantime."""
    row = (await tx.execute(_LOCK if lock else _READ, {"account": account_id, "id": rule_id})).first()
    return _rule(row) if row else None


async def all_rules(tx: Tx, account_id: str) -> list[StoredRule]:
    """Every rule of an account, locked."""
    return [_rule(row) for row in await tx.execute(_ALL, {"account": account_id})]


async def scheduled(tx: Tx, accounts: Iterable[str], ids: Sequence[str]) -> dict[str, StoredRule]:
    """Those of these rules that are on and come by the clock."""
    rows = await tx.execute(_SCHEDULED, {"accounts": sorted(accounts), "ids": list(ids)})
    return {row.id: _rule(row) for row in rows}


async def on_absence(
    tx: Tx, accounts: Iterable[str], only: str | None = None
) -> list[tuple[StoredRule, datetime | None]]:
    """Those that are on and come when nobody is available, locked, with since when that was the last time they came."""
    found = []
    for row in await tx.execute(_ON_ABSENCE, {"accounts": sorted(accounts), "only": only}):
        values = row._asdict()
        since = values.pop("absence_asked_since")
        found.append((StoredRule(**{**values, "inbox_ids": tuple(row.inbox_ids)}), since))
    return found


async def absences_asked(tx: Tx, accounts: Iterable[str], since: Mapping[str, datetime]) -> None:
    """Remember, by rule, since when nobody was available when it came."""
    if since:
        given = {"accounts": sorted(accounts), "ids": list(since), "sinces": list(since.values())}
        await tx.execute(_ABSENCES_ASKED, given)


async def insert_rule(tx: Tx, rule: StoredRule) -> None:
    """Keep a new rule; every replica uses it from its next batch on."""
    await tx.execute(_INSERT, _parameters(rule))
    await tx.execute(_BUMP, {"account": rule.account_id})


async def update_rule(tx: Tx, rule: StoredRule) -> None:
    """Replace a rule that this transaction has locked."""
    await tx.execute(_UPDATE, _parameters(rule))
    await tx.execute(_BUMP, {"account": rule.account_id})


async def delete_rule(tx: Tx, account_id: str, rule_id: str) -> None:
    """Remove a rule that this transaction has locked; what it did stays on record."""
    await tx.execute(_DELETE, {"account": account_id, "id": rule_id})
    await tx.execute(_BUMP, {"account": account_id})


async def record(tx: Tx, executions: Sequence[Execution], now: datetime) -> set[str]:
    """Keep executions; answers the ids of those that were not there before."""
    columns: dict[str, Any] = {
        "now": now,
        "id": [e.id for e in executions],
        "account_id": [e.event.account_id for e in executions],
        "rule_id": [e.rule.id for e in executions],
        "rule_version": [e.rule.version for e in executions],
        "rule_name": [e.rule.name for e in executions],
        "event_id": [e.event.event_id for e in executions],
        "event_type": [e.event.event_type for e in executions],
        "conversation_id": [e.event.subject.conversation_id for e in executions],
        "outcome": [e.outcome for e in executions],
        "actions": [json.dumps([action.type for action in e.rule.actions]) for e in executions],
        "happened_at": [e.event.at for e in executions],
    }
    return set((await tx.execute(_RECORD, columns)).scalars())


async def fired(tx: Tx, executions: Sequence[Execution]) -> dict[tuple[str, str], list[datetime]]:
    """When these rules fired in these conversations in the hour before, by (rule, conversation); these events themselves do not count."""
    pairs = sorted(
        {(e.rule.id, e.event.subject.conversation_id) for e in executions if e.event.subject.conversation_id}
    )
    given = {
        "accounts": sorted({e.event.account_id for e in executions}),
        "rules": [rule for rule, _ in pairs],
        "conversations": [conversation for _, conversation in pairs],
        "events": sorted({e.event.event_id for e in executions}),
        "since": min(e.event.at for e in executions) - timedelta(hours=1),
        "outcomes": sorted(FIRED),
    }
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in await tx.execute(_FIRED, given):
        found[row.rule_id, row.conversation_id].append(row.happened_at)
    return found


async def list_executions(
    tx: Tx,
    account_id: str,
    *,
    conversation_id: str | None,
    rule_id: str | None,
    outcome: Outcome | None,
    since: datetime | None,
    until: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Row[Any]]:
    """What rules did from ``since`` to before ``until``, the latest first, from after a (time, id) on."""
    at, execution_id = after or (None, None)
    rows = await tx.execute(
        _EXECUTIONS,
        {
            "account": account_id,
            "conversation_id": conversation_id,
            "rule_id": rule_id,
            "outcome": outcome,
            "since": since,
            "until": until,
            "at": at,
            "id": execution_id,
            "limit": limit,
        },
    )
    return list(rows)


def _rule(row: Row[Any]) -> StoredRule:
    return StoredRule(**{**row._asdict(), "inbox_ids": tuple(row.inbox_ids)})


def _parameters(rule: StoredRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "account_id": rule.account_id,
        "name": rule.name,
        "trigger": rule.trigger,
        "conditions": json.dumps(rule.conditions),
        "actions": json.dumps(rule.actions),
        "inbox_ids": json.dumps(rule.inbox_ids),
        "on_automated": rule.on_automated,
        "enabled": rule.enabled,
        "position": rule.position,
        "version": rule.version,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
        "updated_by": rule.updated_by,
        "schedule": None if rule.schedule is None else json.dumps(rule.schedule),
        "absence": None if rule.absence is None else json.dumps(rule.absence),
    }
