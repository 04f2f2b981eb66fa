"""The inboxes table."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from relevo.chassis import Tx
from relevo.contracts.ingest import InboxState

_COLUMNS = """
    cast(id as text) as id, cast(account_id as text) as account_id, name, channel, enabled, reopen,
    cast(team_id as text) as team_id, bot_first, bot_skips_owned, bot_timeout_seconds,
    phone_region, webhook_url, show_typing, survey, changes, archive_after_days, version
"""
_BY_IDS = text(f"select {_COLUMNS} from inboxes where id = any(cast(:ids as uuid[])) and deleted_at is null")
_ONE = text(
    f"""
    select {_COLUMNS} from inboxes
    where account_id = cast(:account_id as uuid) and id = cast(:id as uuid) and deleted_at is null
    """
)
_ONE_LOCKED = text(f"{_ONE.text} for update")
_PAGE = text(
    f"""
    select {_COLUMNS} from inboxes
    where account_id = cast(:account_id as uuid) and deleted_at is null
      and (cast(:after as uuid) is null or id > cast(:after as uuid))
    order by id limit :limit
    """
)
_INSERT = text(
    """
    insert into inboxes (id, account_id, name, channel, enabled, reopen, team_id, bot_first,
                         bot_skips_owned, bot_timeout_seconds, phone_region,
                         webhook_url, show_typing, survey, changes, archive_after_days, version, created_at, updated_at)
    values (cast(:id as uuid), cast(:account_id as uuid), :name, :channel, :enabled, :reopen, cast(:team_id as uuid),
            :bot_first, :bot_skips_owned, :bot_timeout_seconds, :phone_region, :webhook_url, :show_typing, cast(:survey as jsonb), :changes,
            :archive_after_days, 1, :at, :at)
    """
)
_UPDATE = text(
    """
    update inboxes set name = :name, enabled = :enabled, reopen = :reopen, team_id = cast(:team_id as uuid),
        bot_first = :bot_first, bot_skips_owned = :bot_skips_owned,
        bot_timeout_seconds = :bot_timeout_seconds, phone_region = :phone_region, webhook_url = :webhook_url,
        show_typing = :show_typing, survey = cast(:survey as jsonb), changes = :changes,
        archive_after_days = :archive_after_days, version = :version, updated_at = :at,
        deleted_at = case when :deleted then cast(:at as timestamptz) end
    where account_id = cast(:account_id as uuid) and id = cast(:id as uuid)
    """
)


def state(row: Row[Any]) -> InboxState:
    """An inbox from a row of the table."""
    return InboxState.model_validate(row._asdict())


async def by_ids(tx: Tx, ids: Iterable[str]) -> dict[str, InboxState]:
    """The inboxes with these ids (all must be UUIDs), of any account, the removed ones left out."""
    rows = await tx.execute(_BY_IDS, {"ids": sorted(set(ids))})
    return {row.id: state(row) for row in rows}


async def one(tx: Tx, account_id: str, inbox_id: str, *, lock: bool = False) -> tuple[InboxState, int] | None:
    """An inbox of the account with its version, or None."""
    found = await tx.execute(_ONE_LOCKED if lock else _ONE, {"account_id": account_id, "id": inbox_id})
    row = found.one_or_none()
    return None if row is None else (state(row), row.version)


async def page(tx: Tx, account_id: str, after: str | None, limit: int) -> list[tuple[InboxState, int]]:
    """The account's inboxes after an id, oldest first."""
    rows = await tx.execute(_PAGE, {"account_id": account_id, "after": after, "limit": limit})
    return [(state(row), row.version) for row in rows]


async def insert(tx: Tx, inbox: InboxState, at: datetime) -> None:
    """A new inbox, version 1."""
    await tx.execute(_INSERT, _columns(inbox) | {"at": at})


async def update(tx: Tx, inbox: InboxState, version: int, at: datetime, *, deleted: bool = False) -> None:
    """Write the whole state of an inbox whose row is locked."""
    await tx.execute(_UPDATE, _columns(inbox) | {"version": version, "at": at, "deleted": deleted})


def _columns(inbox: InboxState) -> dict[str, Any]:
    survey = inbox.survey.model_dump_json() if inbox.survey else None
    return inbox.model_dump() | {"survey": survey, "changes": list(inbox.changes)}
