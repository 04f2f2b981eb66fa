"""SQL of what inboxes answer by themselves: of each kind of answer one table, whose columns are the kind's fields."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import text

from relevo.automation.domain import offline, out_of_hours
from relevo.automation.domain.inbox_answers import InboxAnswer
from relevo.chassis.database import Tx

S = TypeVar("S", bound=InboxAnswer)

_TABLES: Final[dict[type[InboxAnswer], str]] = {
    out_of_hours.Setting: "out_of_hours",
    offline.Setting: "offline_answers",
}
_IDS: Final = ("account_id", "inbox_id")


def _names(kind: type[InboxAnswer]) -> list[str]:
    return [field.name for field in fields(kind)]


def _select(kind: type[InboxAnswer]) -> str:
    columns = [f"cast({name} as text) as {name}" if name in _IDS else name for name in _names(kind)]
    return f"select {', '.join(columns)} from {_TABLES[kind]}"


def _save(kind: type[InboxAnswer]) -> str:
    names = _names(kind)
    values = [f"cast(:{name} as uuid)" if name in _IDS else f":{name}" for name in names]
    changed = [f"{name} = excluded.{name}" for name in (*names, "updated_at", "updated_by") if name not in _IDS]
    return f"""
        insert into {_TABLES[kind]} ({", ".join(names)}, updated_at, updated_by) values ({", ".join(values)}, :at, :by)
        on conflict (inbox_id) do update set {", ".join(changed)}
    """


_ENABLED: Final = {
    kind: text(f"{_select(kind)} where account_id = any(cast(:accounts as uuid[])) and enabled") for kind in _TABLES
}
_READ: Final = {
    kind: text(
        f"{_select(kind)} where account_id = cast(:account as uuid) and inbox_id = any(cast(:inboxes as uuid[]))"
    )
    for kind in _TABLES
}
_SAVE: Final = {kind: text(_save(kind)) for kind in _TABLES}
_LOCK = text(
    "select pg_advisory_xact_lock(hashtextextended(concat(cast(:kind as text), ' ', cast(:inbox as text)), 0))"
)


async def enabled(tx: Tx, kind: type[S], accounts: Iterable[str]) -> dict[str, S]:
    """What is answered in these accounts, by inbox."""
    rows = await tx.execute(_ENABLED[kind], {"accounts": sorted(accounts)})
    return {row.inbox_id: kind(**row._asdict()) for row in rows}


async def read(tx: Tx, kind: type[S], account_id: str, inboxes: Sequence[str]) -> dict[str, S]:
    """What these inboxes answer, by inbox; those that never said are missing."""
    rows = await tx.execute(_READ[kind], {"account": account_id, "inboxes": list(inboxes)})
    return {row.inbox_id: kind(**row._asdict()) for row in rows}


async def lock(tx: Tx, kind: type[InboxAnswer], inbox_id: str) -> None:
    """Keep others from changing an inbox's answer in the meantime, also one that is not there yet."""
    await tx.execute(_LOCK, {"kind": _TABLES[kind], "inbox": inbox_id})


async def save(tx: Tx, setting: InboxAnswer, *, at: datetime, by: str) -> None:
    """Keep what an inbox answers."""
    await tx.execute(_SAVE[type(setting)], asdict(setting) | {"at": at, "by": by})
