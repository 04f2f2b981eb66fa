"""Business calendars. Whoever writes holds the account's lock; removed rows stay, marked, for their version."""

from typing import Any, Final

from sqlalchemy import Row, text

from relevo.chassis.database import Tx
from relevo.contracts.identity import CalendarState
from relevo.identity.store.directory import Stored

MOST: Final = 100
"""Calendars of one account."""

_LIVE = "select state, version from calendars where account_id = :account and deleted_at is null"
_LIST = text(f"{_LIVE} and (cast(:after as uuid) is null or id > :after) order by id limit :limit")
_ONE = text(f"{_LIVE} and id = :id")
_SAVE = text("""
    insert into calendars (id, account_id, name, state, version)
    values (:id, :account, :name, cast(:state as jsonb), :version)
    on conflict (id) do update set name = excluded.name, state = excluded.state, version = excluded.version
""")
_REMOVE = text("update calendars set deleted_at = now(), version = :version where account_id = :account and id = :id")


async def calendars(tx: Tx, account: str, *, after: str | None, limit: int) -> list[Stored[CalendarState]]:
    """The calendars in the order in which they were made."""
    return [_stored(row) for row in await tx.execute(_LIST, {"account": account, "after": after, "limit": limit})]


async def calendar(tx: Tx, account: str, calendar_id: str) -> Stored[CalendarState] | None:
    """One of them."""
    row = (await tx.execute(_ONE, {"account": account, "id": calendar_id})).first()
    return _stored(row) if row else None


async def save(tx: Tx, stored: Stored[CalendarState]) -> None:
    """Write one."""
    state = stored.state
    await tx.execute(
        _SAVE,
        {
            "id": state.id,
            "account": state.account_id,
            "name": state.name,
            "state": state.model_dump_json(),
            "version": stored.version,
        },
    )


async def remove(tx: Tx, stored: Stored[CalendarState]) -> None:
    """Mark one removed."""
    await tx.execute(_REMOVE, {"account": stored.state.account_id, "id": stored.state.id, "version": stored.version})


def _stored(row: Row[Any]) -> Stored[CalendarState]:
    return Stored(CalendarState.model_validate(row.state), row.version)
