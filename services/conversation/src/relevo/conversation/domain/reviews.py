"""Which conversations a rule whose time has come is about. Pure."""

from datetime import datetime, timedelta

from relevo.contracts.conversation import ReviewConversations
from relevo.contracts.snapshots import ConversationSnapshot


def concerns(asked: ReviewConversations, state: ConversationSnapshot) -> bool:
    """Whether a conversation, as it is, is one of those that are asked for."""
    if state.status == "resolved" or state.merged_into is not None:
        return False
    return (
        (not asked.statuses or state.status in asked.statuses)
        and (not asked.inbox_ids or state.inbox_id in asked.inbox_ids)
        and (asked.team_id is None or state.team_id == asked.team_id)
        and _so_long(asked, state.last_activity_at, asked.idle_minutes)
        and _so_long(asked, state.waiting_since, asked.waiting_minutes)
    )


def _so_long(asked: ReviewConversations, since: datetime | None, minutes: int) -> bool:
    return not minutes or (since is not None and since <= asked.due_at - timedelta(minutes=minutes))
