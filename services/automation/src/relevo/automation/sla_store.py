"""SQL of service levels: policies, courses and their clocks."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from relevo.automation.domain.sla import Clock, Course, Measure, Targets, Terms, from_json, to_json
from relevo.automation.domain.sla_telling import Kept
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationFacts


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it is kept; ``conditions`` is parsed JSON."""

    id: str
    account_id: str
    name: str
    position: int
    enabled: bool
    conditions: Any
    terms: Terms
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose a conversation is: what access, calendars and events need of it, all of it ids."""

    number: int
    inbox_id: str
    channel: str
    team_id: str | None
    assignee_id: str | None
    participant_ids: tuple[str, ...]
    owner_id: str | None
    priority: str | None

    def access(self, account_id: str) -> ConversationFacts:
        """For the access rule."""
        return ConversationFacts(
            account_id, self.inbox_id, self.team_id, self.assignee_id, frozenset(self.participant_ids), self.owner_id
        )


@dataclass(frozen=True, slots=True)
class Followed:
    """A conversation whose clocks are kept, under a policy or under none at present."""

    conversation_id: str
    account_id: str
    course: Course
    whose: Whose
    policy_id: str | None = None
    policy_version: int | None = None
    calendar_id: str | None = None
    calendar_version: int | None = None
    clocks: Mapping[Measure, Kept] = field(default_factory=dict)


_POLICY: Final = """
    cast(id as text) as id, cast(account_id as text) as account_id, name, position, enabled, conditions, terms, version,
    created_at, updated_at, updated_by
"""
_ENABLED = text(f"""
    select {_POLICY} from sla_policies where account_id = any(cast(:accounts as uuid[])) and enabled
    order by account_id, position, id
""")
_LIST = text(f"""
    select {_POLICY} from sla_policies where account_id = cast(:account as uuid)
        and (position, id) > (:position, cast(:after as uuid))
    order by position, id limit :limit
""")
_ONE: Final = f"select {_POLICY} from sla_policies where account_id = cast(:account as uuid) and id = cast(:id as uuid)"
_READ = text(_ONE)
_READ_LOCKED = text(f"{_ONE} for no key update")
_SAVE = text("""
    insert into sla_policies (id, account_id, name, position, enabled, conditions, terms, version, created_at, updated_at, updated_by)
    values (cast(:id as uuid), cast(:account_id as uuid), :name, :position, :enabled, cast(:conditions as jsonb),
            cast(:terms as jsonb), :version, :created_at, :updated_at, :updated_by)
    on conflict (id) do update set name = excluded.name, position = excluded.position, enabled = excluded.enabled,
        conditions = excluded.conditions, terms = excluded.terms, version = excluded.version,
        updated_at = excluded.updated_at, updated_by = excluded.updated_by
""")
_DELETE = text("delete from sla_policies where account_id = cast(:account as uuid) and id = cast(:id as uuid)")
_COUNT = text("select count(*) from sla_policies where account_id = cast(:account as uuid)")
_COURSE: Final = """
    cast(conversation_id as text) as conversation_id, cast(account_id as text) as account_id,
    cast(policy_id as text) as policy_id, policy_version, calendar_id, calendar_version, course, facts
"""
_FOLLOWED: Final = f"""
    select {_COURSE} from sla_courses
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:conversations as uuid[]))
    order by conversation_id
"""
_LOCKED = text(f"{_FOLLOWED} for update")
_SEEN = text(_FOLLOWED)
_CLOCKS = text("""
    select cast(conversation_id as text) as conversation_id, measure, started_at, target_seconds, due_at, warn_at, done_at,
           state, warned_for, breached_for
    from sla_clocks
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:conversations as uuid[]))
""")
_NEXT = text("""
    select cast(conversation_id as text) from sla_courses
    where account_id = cast(:account as uuid) and conversation_id > cast(:after as uuid)
      and (cast(:policy as uuid) is null or policy_id = cast(:policy as uuid))
      and course ->> 'resolved_at' is null
    order by conversation_id limit :limit
""")
_KEEP = text("""
    insert into sla_courses as c (conversation_id, account_id, policy_id, policy_version, calendar_id, calendar_version, course, facts)
    select * from unnest(
        cast(:conversations as uuid[]), cast(:accounts as uuid[]), cast(:policies as uuid[]), cast(:versions as bigint[]),
        cast(:calendars as text[]), cast(:calendar_versions as bigint[]), cast(:courses as jsonb[]), cast(:facts as jsonb[]))
    on conflict (conversation_id) do update
        set policy_id = excluded.policy_id, policy_version = excluded.policy_version, calendar_id = excluded.calendar_id,
            calendar_version = excluded.calendar_version, course = excluded.course, facts = excluded.facts
""")
_DROP_CLOCKS = text("""
    delete from sla_clocks
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:conversations as uuid[]))
""")
_KEEP_CLOCKS = text("""
    insert into sla_clocks (conversation_id, account_id, measure, started_at, target_seconds, due_at, warn_at, done_at, state,
                            warned_for, breached_for)
    select * from unnest(
        cast(:conversations as uuid[]), cast(:accounts as uuid[]), cast(:measures as text[]), cast(:starts as timestamptz[]),
        cast(:targets as bigint[]), cast(:dues as timestamptz[]), cast(:warns as timestamptz[]),
        cast(:dones as timestamptz[]), cast(:states as text[]), cast(:warned as timestamptz[]), cast(:breached as timestamptz[]))
""")
_FORGET = text("""
    delete from sla_courses
    where account_id = any(cast(:accounts as uuid[])) and conversation_id = any(cast(:conversations as uuid[]))
""")


async def enabled(tx: Tx, accounts: Collection[str]) -> list[Policy]:
    """The policies that apply in these accounts, in their order."""
    return [_policy(row) for row in await tx.execute(_ENABLED, {"accounts": sorted(accounts)})]


async def policies(tx: Tx, account_id: str, *, after: tuple[int, str], limit: int) -> list[Policy]:
    """An account's policies behind this position and id, in their order."""
    given = {"account": account_id, "position": after[0], "after": after[1], "limit": limit}
    return [_policy(row) for row in await tx.execute(_LIST, given)]


async def policy(tx: Tx, account_id: str, id_: str, *, lock: bool = False) -> Policy | None:
    """One policy."""
    row = (await tx.execute(_READ_LOCKED if lock else _READ, {"account": account_id, "id": id_})).first()
    return None if row is None else _policy(row)


async def count(tx: Tx, account_id: str) -> int:
    """How many policies the account has."""
    return int((await tx.execute(_COUNT, {"account": account_id})).scalar_one())


async def save(tx: Tx, one: Policy) -> None:
    """Keep a policy, new or changed."""
    given = {"conditions": json.dumps(one.conditions), "terms": json.dumps(asdict(one.terms))}
    await tx.execute(_SAVE, asdict(one) | given)


async def delete(tx: Tx, account_id: str, id_: str) -> None:
    """Forget a policy."""
    await tx.execute(_DELETE, {"account": account_id, "id": id_})


async def followed(
    tx: Tx, accounts: Collection[str], conversations: Iterable[str], *, lock: bool = True
) -> dict[str, Followed]:
    """What is kept of these conversations, kept from others until the transaction ends."""
    given = {"accounts": sorted(accounts), "conversations": sorted(set(conversations))}
    rows = (await tx.execute(_LOCKED if lock else _SEEN, given)).all()
    if not rows:
        return {}
    clocks: dict[str, dict[Measure, Kept]] = {row.conversation_id: {} for row in rows}
    for row in await tx.execute(_CLOCKS, given):
        clock = Clock(row.measure, row.started_at, row.target_seconds, row.due_at, row.warn_at, row.done_at, row.state)
        clocks[row.conversation_id][row.measure] = Kept(clock, row.warned_for, row.breached_for)
    return {
        row.conversation_id: Followed(
            row.conversation_id,
            row.account_id,
            from_json(row.course),
            Whose(**{**row.facts, "participant_ids": tuple(row.facts["participant_ids"])}),
            row.policy_id,
            row.policy_version,
            row.calendar_id,
            row.calendar_version,
            clocks[row.conversation_id],
        )
        for row in rows
    }


async def open_ones(tx: Tx, account_id: str, *, policy_id: str | None, after: str, limit: int) -> list[str]:
    """The conversations of an account (under one policy) that are not resolved, from ``after`` on."""
    given = {"account": account_id, "policy": policy_id, "after": after, "limit": limit}
    return list((await tx.execute(_NEXT, given)).scalars())


async def keep(tx: Tx, given: Sequence[Followed]) -> None:
    """Keep these with their clocks, which replace those that there were."""
    rows = sorted(given, key=lambda one: one.conversation_id)
    if not rows:
        return
    where = {"accounts": [one.account_id for one in rows], "conversations": [one.conversation_id for one in rows]}
    await tx.execute(
        _KEEP,
        where
        | {
            "policies": [one.policy_id for one in rows],
            "versions": [one.policy_version for one in rows],
            "calendars": [one.calendar_id for one in rows],
            "calendar_versions": [one.calendar_version for one in rows],
            "courses": [json.dumps(to_json(one.course)) for one in rows],
            "facts": [json.dumps(asdict(one.whose)) for one in rows],
        },
    )
    await tx.execute(_DROP_CLOCKS, where)
    clocks = [(one, kept) for one in rows for kept in one.clocks.values()]
    if clocks:
        await tx.execute(
            _KEEP_CLOCKS,
            {
                "conversations": [one.conversation_id for one, _ in clocks],
                "accounts": [one.account_id for one, _ in clocks],
                "measures": [kept.clock.measure for _, kept in clocks],
                "starts": [kept.clock.started_at for _, kept in clocks],
                "targets": [kept.clock.target for _, kept in clocks],
                "dues": [kept.clock.due_at for _, kept in clocks],
                "warns": [kept.clock.warn_at for _, kept in clocks],
                "dones": [kept.clock.done_at for _, kept in clocks],
                "states": [kept.clock.state for _, kept in clocks],
                "warned": [kept.warned_for for _, kept in clocks],
                "breached": [kept.breached_for for _, kept in clocks],
            },
        )


async def forget(tx: Tx, accounts: Collection[str], conversations: Collection[str]) -> None:
    """Keep nothing of these conversations any more."""
    await tx.execute(_FORGET, {"accounts": sorted(accounts), "conversations": sorted(conversations)})


def _policy(row: Any) -> Policy:
    targets = {priority: Targets(**one) for priority, one in row.terms["targets"].items()}
    return Policy(**{**row._asdict(), "terms": Terms(**{**row.terms, "targets": targets})})
