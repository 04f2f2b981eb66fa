"""SQL of the stays: with whom conversations were, and where they waited."""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from relevo.assignment.domain.stays import Stay
from relevo.chassis.database import Tx

_SAVE = text("""
    insert into stays (account_id, conversation_id, state, inbox_id, channel, team_id, assignee_id, queued_at, rank, level,
        from_at, to_at)
    select cast(:account as uuid), conversation_id, state, inbox_id, channel, team_id, assignee_id, queued_at, rank, level,
        from_at, to_at
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (conversation_id uuid, state text, inbox_id uuid, channel text,
        team_id uuid, assignee_id uuid, queued_at timestamptz, rank smallint, level smallint, from_at timestamptz,
        to_at timestamptz)
""")


async def save(tx: Tx, account_id: str, ended: Sequence[Stay]) -> None:
    """Keep stays that ended."""
    rows = [
        {
            "conversation_id": one.conversation_id,
            "state": one.spot.state,
            "inbox_id": one.spot.inbox_id,
            "channel": one.spot.channel,
            "team_id": one.spot.team_id,
            "assignee_id": one.spot.assignee_id,
            "queued_at": one.spot.queued_at,
            "rank": one.spot.rank,
            "level": one.level,
            "from_at": one.since,
            "to_at": one.until,
        }
        for one in ended
    ]
    if rows:
        await tx.execute(_SAVE, {"account": account_id, "rows": json.dumps(rows, default=datetime.isoformat)})
