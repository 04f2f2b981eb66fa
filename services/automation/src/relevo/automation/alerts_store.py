"""SQL of alerts about statuses."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from relevo.automation.domain.alerts import Alert, Status, Telling
from relevo.chassis.database import Tx

_COLUMNS: Final = """
    cast(id as text) as id, cast(account_id as text) as account_id, cast(subscriber_id as text) as subscriber_id, kind,
    cast(agent_id as text) as agent_id, cast(team_id as text) as team_id, states, minutes, quiet_minutes, enabled, version,
    created_at, updated_at
"""
_ENABLED = text(
    f"select {_COLUMNS} from alerts where account_id = any(cast(:accounts as uuid[])) and enabled order by id"
)
_MINE: Final = f"""
    select {_COLUMNS} from alerts
    where account_id = cast(:account as uuid) and subscriber_id = cast(:subscriber as uuid)
"""
_LIST = text(_MINE + " and id > cast(:after as uuid) order by id limit :limit")
_READ = text(_MINE + " and id = cast(:id as uuid)")
_LOCKED = text(_MINE + " and id = cast(:id as uuid) for update")
_COUNT = text("""
    select count(*) from alerts where account_id = cast(:account as uuid) and subscriber_id = cast(:subscriber as uuid)
""")
_SAVE = text("""
    insert into alerts (id, account_id, subscriber_id, kind, agent_id, team_id, states, minutes, quiet_minutes, enabled, version,
                        created_at, updated_at)
    values (cast(:id as uuid), cast(:account_id as uuid), cast(:subscriber_id as uuid), :kind, cast(:agent_id as uuid),
            cast(:team_id as uuid), cast(:states as text[]), :minutes, :quiet_minutes, :enabled, :version, :created_at, :updated_at)
    on conflict (id) do update set kind = excluded.kind, agent_id = excluded.agent_id, team_id = excluded.team_id,
        states = excluded.states, minutes = excluded.minutes, quiet_minutes = excluded.quiet_minutes,
        enabled = excluded.enabled, version = excluded.version, updated_at = excluded.updated_at
""")
_DELETE = text(
    "delete from alerts where account_id = cast(:account as uuid) and subscriber_id = cast(:subscriber as uuid) and id = cast(:id as uuid)"
)
_STATUSES: Final = """
    select cast(agent_id as text) as agent_id, cast(account_id as text) as account_id, state, since, not_available_since,
           in_shift, sequence
    from alert_statuses where account_id = any(cast(:accounts as uuid[]))
"""
_ALL_STATUSES = text(_STATUSES)
_STATUSES_OF = text(_STATUSES + " and agent_id = any(cast(:agents as uuid[]))")
_KEEP = text("""
    insert into alert_statuses as s (agent_id, account_id, state, since, not_available_since, in_shift, sequence)
    select * from unnest(
        cast(:agents as uuid[]), cast(:accounts as uuid[]), cast(:states as text[]), cast(:sinces as timestamptz[]),
        cast(:gone as timestamptz[]), cast(:shifts as boolean[]), cast(:sequences as bigint[]))
    on conflict (agent_id) do update set state = excluded.state, since = excluded.since,
        not_available_since = excluded.not_available_since, in_shift = excluded.in_shift, sequence = excluded.sequence
        where excluded.sequence > s.sequence
""")
_TELLINGS = text("""
    select cast(alert_id as text) as alert_id, cast(subject_id as text) as subject_id, since, told_at from alert_tellings
    where account_id = any(cast(:accounts as uuid[]))
""")
_TOLD = text("""
    insert into alert_tellings (alert_id, subject_id, account_id, since, told_at)
    select alert_id, subject_id, account_id, since, :at
    from unnest(cast(:alerts as uuid[]), cast(:subjects as uuid[]), cast(:accounts as uuid[]), cast(:sinces as timestamptz[]))
         as n (alert_id, subject_id, account_id, since)
    order by alert_id, subject_id
    on conflict (alert_id, subject_id) do update set since = excluded.since, told_at = excluded.told_at
""")


@dataclass(frozen=True, slots=True)
class Told:
    """What an alert tells of: a subject, for which it is so since then."""

    alert: Alert
    subject_id: str
    since: datetime


async def enabled(tx: Tx, accounts: Collection[str]) -> list[Alert]:
    """The alerts of these accounts that are on."""
    return [_alert(row) for row in await tx.execute(_ENABLED, {"accounts": sorted(accounts)})]


async def mine(tx: Tx, account_id: str, subscriber_id: str, *, after: str, limit: int) -> list[Alert]:
    """A person's alerts from ``after`` on."""
    given = {"account": account_id, "subscriber": subscriber_id, "after": after, "limit": limit}
    return [_alert(row) for row in await tx.execute(_LIST, given)]


async def read(tx: Tx, account_id: str, subscriber_id: str, id_: str, *, lock: bool = False) -> Alert | None:
    """One of a person's alerts."""
    given = {"account": account_id, "subscriber": subscriber_id, "id": id_}
    row = (await tx.execute(_LOCKED if lock else _READ, given)).first()
    return None if row is None else _alert(row)


async def count(tx: Tx, account_id: str, subscriber_id: str) -> int:
    """How many alerts a person has."""
    given = {"account": account_id, "subscriber": subscriber_id}
    return int((await tx.execute(_COUNT, given)).scalar_one())


async def save(tx: Tx, alert: Alert) -> None:
    """Keep an alert, new or changed."""
    await tx.execute(_SAVE, asdict(alert) | {"states": list(alert.states)})


async def delete(tx: Tx, account_id: str, subscriber_id: str, id_: str) -> None:
    """Forget an alert, and what was told of it."""
    await tx.execute(_DELETE, {"account": account_id, "subscriber": subscriber_id, "id": id_})


async def statuses(tx: Tx, accounts: Collection[str]) -> dict[str, Status]:
    """The status of each agent of these accounts, by id."""
    rows = await tx.execute(_ALL_STATUSES, {"accounts": sorted(accounts)})
    return {row.agent_id: Status(**row._asdict()) for row in rows}


async def statuses_of(tx: Tx, accounts: Collection[str], agents: Collection[str]) -> dict[str, Status]:
    """The statuses of these agents alone."""
    rows = await tx.execute(_STATUSES_OF, {"accounts": sorted(accounts), "agents": sorted(agents)})
    return {row.agent_id: Status(**row._asdict()) for row in rows}


async def keep(tx: Tx, given: Iterable[Status]) -> None:
    """Keep statuses; an older one never replaces a newer one."""
    rows: Sequence[Status] = sorted(given, key=lambda one: one.agent_id)
    if rows:
        await tx.execute(
            _KEEP,
            {
                "agents": [one.agent_id for one in rows],
                "accounts": [one.account_id for one in rows],
                "states": [one.state for one in rows],
                "sinces": [one.since for one in rows],
                "gone": [one.not_available_since for one in rows],
                "shifts": [one.in_shift for one in rows],
                "sequences": [one.sequence for one in rows],
            },
        )


async def tellings(tx: Tx, accounts: Collection[str]) -> dict[tuple[str, str], Telling]:
    """What was told last, by alert and subject."""
    rows = await tx.execute(_TELLINGS, {"accounts": sorted(accounts)})
    return {(row.alert_id, row.subject_id): Telling(row.since, row.told_at) for row in rows}


async def told(tx: Tx, given: Sequence[Told], *, at: datetime) -> None:
    """Remember what was told, each alert and subject once."""
    if given:
        await tx.execute(
            _TOLD,
            {
                "alerts": [one.alert.id for one in given],
                "subjects": [one.subject_id for one in given],
                "accounts": [one.alert.account_id for one in given],
                "sinces": [one.since for one in given],
                "at": at,
            },
        )


def _alert(row: Any) -> Alert:
    return Alert(**{**row._asdict(), "states": tuple(row.states)})
