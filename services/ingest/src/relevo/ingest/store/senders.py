"""What is known of one sender of an inbox."""

from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx

_ONE = text("""
    select sequence, first_seen, last_seen from senders
    where account_id = cast(:account as uuid) and inbox_id = cast(:inbox as uuid) and sender_key = :key
""")


async def one(tx: Tx, account_id: str, inbox_id: str, sender_key: str) -> Any | None:
    """The sender's row, None when nothing of theirs was ever accepted."""
    rows = await tx.execute(_ONE, {"account": account_id, "inbox": inbox_id, "key": sender_key})
    return rows.one_or_none()
