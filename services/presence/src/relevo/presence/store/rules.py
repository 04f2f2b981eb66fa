"""Rules of accounts, named statuses, schedules and absences."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.presence.domain.rules import NO_RULES, Label
from relevo.presence.domain.shifts import calendar_of
from relevo.presence.domain.status import Setting
from relevo.presence.rules_json import rules_of

Row = Mapping[str, Any]

_LOCK = text("select pg_advisory_xact_lock(hashtextextended('presence.settings:' || :account, 0))")
_RULES = text("""
    select cast(r.account_id as text) as account_id, r.rules, r.version, cast(n.id as text) as rest_id, n.state as rest_state
    from rules r
    left join named_statuses n
        on n.account_id = r.account_id and n.id = cast(r.rules ->> 'break_status_id' as uuid) and not n.removed
    where r.account_id = any(cast(:accounts as uuid[]))
""")
_SAVE_RULES = text("""
    insert into rules (account_id, rules, version) values (cast(:account as uuid), cast(:rules as jsonb), :version)
    on conflict (account_id) do update set rules = excluded.rules, version = excluded.version, changed_at = now()
""")

# The teams of an agent are the directory's.
_CALENDARS = text("""
    select a.agent_id, x.kind, cast(s.calendar as text) as calendar
    from unnest(cast(:agents as text[]), cast(:accounts as text[])) as a (agent_id, account_id)
    join directory d on d.kind = 'agent' and d.id = a.agent_id and d.account_id = a.account_id
    join scheduled x on x.account_id = cast(a.account_id as uuid) and (
        (x.kind = 'agent' and x.target_id = cast(a.agent_id as uuid))
        or (x.kind = 'team' and d.state -> 'team_ids' ? cast(x.target_id as text)))
    join schedules s on s.id = x.schedule_id
    order by a.agent_id, s.id
""")
_ABSENT = text("""
    select cast(agent_id as text) as agent_id, first_day, last_day from absences
    where account_id = any(cast(:accounts as uuid[])) and agent_id = any(cast(:agents as uuid[]))
      and last_day >= current_date - 400
    order by agent_id, first_day
""")

_NAMED_COLUMNS = "cast(id as text) as id, name, state, colour, icon, longest_minutes, version, removed"
_NAMED = text(f"""
    select {_NAMED_COLUMNS} from named_statuses
    where account_id = cast(:account as uuid) and (not removed or :also_removed) order by lower(name), id
""")
_NAMES = text("select cast(id as text) as id, name from named_statuses where id = any(cast(:ids as uuid[]))")
_ADD_NAMED = text(f"""
    insert into named_statuses (id, account_id, name, state, colour, icon, longest_minutes)
    values (cast(:id as uuid), cast(:account as uuid), :name, :state, :colour, :icon, :longest_minutes)
    returning {_NAMED_COLUMNS}
""")
_EDIT_NAMED = text(f"""
    update named_statuses set name = :name, state = :state, colour = :colour, icon = :icon,
        longest_minutes = :longest_minutes, version = version + 1
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) and not removed returning {_NAMED_COLUMNS}
""")
_REMOVE_NAMED = text("""
    update named_statuses set removed = true, version = version + 1
    where account_id = cast(:account as uuid) and id = cast(:id as uuid) and not removed returning id
""")

_SCHEDULES = text("""
    select cast(s.id as text) as id, s.name, s.calendar, s.version,
           coalesce((select array_agg(cast(x.target_id as text) order by x.target_id) from scheduled x
                     where x.schedule_id = s.id and x.kind = 'agent'), '{}') as agent_ids,
           coalesce((select array_agg(cast(x.target_id as text) order by x.target_id) from scheduled x
                     where x.schedule_id = s.id and x.kind = 'team'), '{}') as team_ids
    from schedules s
    where s.account_id = cast(:account as uuid) and (cast(:id as uuid) is null or s.id = cast(:id as uuid))
    order by lower(s.name), s.id
""")
_ADD_SCHEDULE = text("""
    insert into schedules (id, account_id, name, calendar)
    values (cast(:id as uuid), cast(:account as uuid), :name, cast(:calendar as jsonb))
""")
_EDIT_SCHEDULE = text("""
    update schedules set name = :name, calendar = cast(:calendar as jsonb), version = version + 1
    where account_id = cast(:account as uuid) and id = cast(:id as uuid)
""")
_REMOVE_SCHEDULE = text("""
    delete from schedules where account_id = cast(:account as uuid) and id = cast(:id as uuid) returning id
""")
_FREE = text("delete from scheduled where account_id = cast(:account as uuid) and schedule_id = cast(:id as uuid)")
# Who had another schedule has this one from now on.
_FOLLOW = text("""
    insert into scheduled (account_id, kind, target_id, schedule_id)
    select cast(:account as uuid), kind, target_id, cast(:id as uuid)
    from unnest(cast(:kinds as text[]), cast(:targets as uuid[])) as t (kind, target_id)
    on conflict (account_id, kind, target_id) do update set schedule_id = excluded.schedule_id
""")

_ABSENCES = text("""
    select cast(id as text) as id, cast(agent_id as text) as agent_id, first_day, last_day, note from absences
    where account_id = cast(:account as uuid) and (cast(:agent as uuid) is null or agent_id = cast(:agent as uuid))
      and last_day >= :since
      and (cast(:after_day as date) is null or (first_day, id) > (cast(:after_day as date), cast(:after_id as uuid)))
    order by first_day, id limit :limit
""")
_ADD_ABSENCE = text("""
    insert into absences (id, account_id, agent_id, first_day, last_day, note)
    values (cast(:id as uuid), cast(:account as uuid), cast(:agent as uuid), :first_day, :last_day, :note)
""")
_REMOVE_ABSENCE = text("""
    delete from absences where account_id = cast(:account as uuid) and id = cast(:id as uuid)
    returning cast(agent_id as text) as agent_id
""")
_KNOWN = text("select cast(agent_id as text) as agent_id from agent_status where account_id = cast(:account as uuid)")


async def settings_of(tx: Tx, agents: Mapping[str, str]) -> dict[str, Setting]:
    """What holds for these agents (id → account)."""
    accounts = sorted(set(agents.values()))
    rules = {
        row.account_id: rules_of(row.rules, None if row.rest_id is None else Label(row.rest_id, row.rest_state))
        for row in (await tx.execute(_RULES, {"accounts": accounts})).all()
    }
    shifts = await calendars_of(tx, agents)
    return {agent: Setting(rules.get(account, NO_RULES), shifts.get(agent, ())) for agent, account in agents.items()}


async def calendars_of(tx: Tx, agents: Mapping[str, str]) -> dict[str, tuple[Any, ...]]:
    """The calendars of these agents' shifts (id → account); without those for whom nothing is planned."""
    given = {"agents": list(agents), "accounts": list(agents.values())}
    rows = (await tx.execute(_CALENDARS, given)).all()
    if not rows:
        return {}
    absences: dict[str, list[tuple[date, date]]] = {}
    wanted = {"agents": sorted({row.agent_id for row in rows}), "accounts": sorted(set(agents.values()))}
    for row in (await tx.execute(_ABSENT, wanted)).all():
        absences.setdefault(row.agent_id, []).append((row.first_day, row.last_day))
    own = {row.agent_id for row in rows if row.kind == "agent"}
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row.kind == "agent" or row.agent_id not in own:
            calendar = calendar_of(row.calendar, tuple(absences.get(row.agent_id, ())))
            found.setdefault(row.agent_id, []).append(calendar)
    return {agent: tuple(calendars) for agent, calendars in found.items()}


async def lock(tx: Tx, account_id: str) -> None:
    """Keep others from editing the account's settings meanwhile: rules, policy, named statuses, schedules; also new ones."""
    await tx.execute(_LOCK, {"account": account_id})


async def read_rules(tx: Tx, account_id: str) -> tuple[Mapping[str, Any], int]:
    """An account's rules as JSON, and their version: nothing and 0 where none were ever set."""
    row = (await tx.execute(_RULES, {"accounts": [account_id]})).first()
    return ({}, 0) if row is None else (row.rules, row.version)


async def save_rules(tx: Tx, account_id: str, rules: Mapping[str, Any], version: int) -> None:
    """Write an account's rules."""
    await tx.execute(_SAVE_RULES, {"account": account_id, "rules": json.dumps(rules), "version": version})


async def known_agents(tx: Tx, account_id: str) -> list[str]:
    """Every agent of the account that presence has heard of."""
    return list((await tx.execute(_KNOWN, {"account": account_id})).scalars())


async def named(tx: Tx, account_id: str, *, also_removed: bool = False) -> list[Row]:
    """The account's named statuses, by name."""
    given = {"account": account_id, "also_removed": also_removed}
    return [dict(row) for row in (await tx.execute(_NAMED, given)).mappings()]


async def names(tx: Tx, ids: Collection[str]) -> dict[str, str]:
    """The names of these named statuses, also of removed ones."""
    if not ids:
        return {}
    return {row.id: row.name for row in (await tx.execute(_NAMES, {"ids": sorted(ids)})).all()}


async def add_named(tx: Tx, account_id: str, id_: str, given: Row) -> Row:
    """Make a named status."""
    return dict((await tx.execute(_ADD_NAMED, {"account": account_id, "id": id_, **given})).mappings().one())


async def edit_named(tx: Tx, account_id: str, id_: str, given: Row) -> Row | None:
    """Write a named status anew; None when there is none."""
    row = (await tx.execute(_EDIT_NAMED, {"account": account_id, "id": id_, **given})).mappings().first()
    return None if row is None else dict(row)


async def remove_named(tx: Tx, account_id: str, id_: str) -> bool:
    """Take a named status away; the history keeps naming it. Tells whether there was one."""
    return (await tx.execute(_REMOVE_NAMED, {"account": account_id, "id": id_})).first() is not None


async def schedules(tx: Tx, account_id: str, id_: str | None = None) -> list[Row]:
    """The account's schedules with who follows them, by name; or the one with this id."""
    return [dict(row) for row in (await tx.execute(_SCHEDULES, {"account": account_id, "id": id_})).mappings()]


async def add_schedule(tx: Tx, account_id: str, id_: str, name: str, calendar: Row) -> None:
    """Make a schedule that nobody follows yet."""
    given = {"account": account_id, "id": id_, "name": name, "calendar": json.dumps(calendar)}
    await tx.execute(_ADD_SCHEDULE, given)


async def edit_schedule(tx: Tx, account_id: str, id_: str, name: str, calendar: Row) -> None:
    """Write a schedule anew."""
    given = {"account": account_id, "id": id_, "name": name, "calendar": json.dumps(calendar)}
    await tx.execute(_EDIT_SCHEDULE, given)


async def remove_schedule(tx: Tx, account_id: str, id_: str) -> bool:
    """Take a schedule away; who followed it has no shifts of their own any more. Tells whether there was one."""
    return (await tx.execute(_REMOVE_SCHEDULE, {"account": account_id, "id": id_})).first() is not None


async def follow(tx: Tx, account_id: str, id_: str, agents: Iterable[str], teams: Iterable[str]) -> None:
    """Have exactly these agents and teams follow a schedule, whatever they followed before."""
    await tx.execute(_FREE, {"account": account_id, "id": id_})
    targets = sorted({("agent", agent) for agent in agents} | {("team", team) for team in teams})
    given = {"account": account_id, "id": id_, "kinds": [kind for kind, _ in targets]}
    await tx.execute(_FOLLOW, {**given, "targets": [target for _, target in targets]})


async def absences(
    tx: Tx, account_id: str, agent_id: str | None, *, since: date, after: tuple[date, str] | None, limit: int
) -> Sequence[Row]:
    """Absences that end on `since` or later, by their first day, from beyond `after` on."""
    day, last = after or (None, None)
    given = {"account": account_id, "agent": agent_id, "since": since, "limit": limit}
    rows = await tx.execute(_ABSENCES, {**given, "after_day": day, "after_id": last})
    return [dict(row) for row in rows.mappings()]


async def add_absence(tx: Tx, account_id: str, id_: str, given: Row) -> None:
    """Note an absence."""
    await tx.execute(_ADD_ABSENCE, {"account": account_id, "id": id_, **given})


async def remove_absence(tx: Tx, account_id: str, id_: str) -> str | None:
    """Take an absence away; answers whose it was, None when there is none."""
    row = (await tx.execute(_REMOVE_ABSENCE, {"account": account_id, "id": id_})).first()
    return None if row is None else str(row.agent_id)
