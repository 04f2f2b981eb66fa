"""SQL of the answers out of hours: what inboxes say, and until when a conversation has had its answer."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from relevo.automation.domain.out_of_hours import Answer, Setting
from relevo.chassis.database import Tx

_COLUMNS: Final = """
    cast(account_id as text) as account_id, cast(inbox_id as text) as inbox_id, enabled, text_es, text_en, version
"""
_ENABLED = text(f"select {_COLUMNS} from out_of_hours where account_id = any(cast(:accounts as uuid[])) and enabled")
_READ = text(f"""
    select {_COLUMNS} from out_of_hours
    where account_id = cast(:account as uuid) and inbox_id = any(cast(:inboxes as uuid[]))
""")
_LOCK = text("select pg_advisory_xact_lock(hashtextextended(cast(:inbox as text), 0))")
_SAVE = text("""
    insert into out_of_hours (account_id, inbox_id, enabled, text_es, text_en, version, updated_at, updated_by)
    values (cast(:account_id as uuid), cast(:inbox_id as uuid), :enabled, :text_es, :text_en, :version, :at, :by)
    on conflict (inbox_id) do update set enabled = excluded.enabled, text_es = excluded.text_es,
        text_en = excluded.text_en, version = excluded.version, updated_at = excluded.updated_at,
        updated_by = excluded.updated_by
""")
# In the order of the primary key, so that two batches never wait for each other in a circle.
_CLAIM = text("""
    insert into out_of_hours_answers as a (account_id, conversation_id, opens_at, answered_at)
    select account_id, conversation_id, opens_at, at
    from unnest(cast(:accounts as uuid[]), cast(:conversations as uuid[]), cast(:opens as timestamptz[]),
                cast(:ats as timestamptz[])) as n(account_id, conversation_id, opens_at, at)
    order by account_id, conversation_id
    on conflict (account_id, conversation_id) do update
        set opens_at = excluded.opens_at, answered_at = excluded.answered_at
        where a.opens_at <= excluded.answered_at
    returning cast(conversation_id as text)
""")


async def enabled(tx: Tx, accounts: Iterable[str]) -> dict[str, Setting]:
    """What is answered in these accounts, by inbox."""
    rows = await tx.execute(_ENABLED, {"accounts": sorted(accounts)})
    return {row.inbox_id: _setting(row) for row in rows}


async def read(tx: Tx, account_id: str, inboxes: Sequence[str]) -> dict[str, Setting]:
    """What these inboxes answer, by inbox; those that never said are missing."""
    rows = await tx.execute(_READ, {"account": account_id, "inboxes": list(inboxes)})
    return {row.inbox_id: _setting(row) for row in rows}


async def lock(tx: Tx, inbox_id: str) -> None:
    """Keep others from changing an inbox's answer in the meantime, also one that is not there yet."""
    await tx.execute(_LOCK, {"inbox": inbox_id})


async def save(tx: Tx, setting: Setting, *, at: datetime, by: str) -> None:
    """Keep what an inbox answers."""
    await tx.execute(
        _SAVE,
        {
            "account_id": setting.account_id,
            "inbox_id": setting.inbox_id,
            "enabled": setting.enabled,
            "text_es": setting.text_es,
            "text_en": setting.text_en,
            "version": setting.version,
            "at": at,
            "by": by,
        },
    )


async def claim(tx: Tx, answers: Sequence[Answer]) -> set[str]:
    """The conversations (one answer each) that have had none in their present closed period, which now has had it."""
    rows = await tx.execute(
        _CLAIM,
        {
            "accounts": [one.setting.account_id for one in answers],
            "conversations": [one.conversation.id for one in answers],
            "opens": [one.opens_at for one in answers],
            "ats": [one.at for one in answers],
        },
    )
    return set(rows.scalars())


def _setting(row: Row[Any]) -> Setting:
    return Setting(**row._asdict())
