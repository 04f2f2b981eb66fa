"""What follows when conversations were resolved: their customers are asked how they were served, and they are put away."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from relevo.chassis import directory, timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import Timer
from relevo.contracts.base import now
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.domain.surveys import credited

SURVEY: Final = "survey"
"""The timers of surveys to send, by conversation id. Resolved again, it moves; reopened, it does nothing."""

ARCHIVE: Final = "archive"
"""The timers of conversations to be archived by themselves, by conversation id. Likewise."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A conversation as it was when it was resolved, and who did it."""

    state: ConversationSnapshot
    actor: str


async def follow(tx: Tx, resolutions: Sequence[Resolution]) -> None:
    """Set the timers of what their inboxes ask for."""
    if not resolutions:
        return
    inboxes = await directory.inboxes(tx, (one.state.inbox_id for one in resolutions))
    planned = []
    ends = []
    for one in resolutions:
        inbox = inboxes.get(one.state.inbox_id)
        if inbox is None:
            continue
        if inbox.archive_after_days is not None:
            due = now() + timedelta(days=inbox.archive_after_days)
            ends.append(Timer(one.state.id, due, account_id=one.state.account_id))
        if inbox.survey is None:
            continue
        agent_id = credited(one.actor, one.state.assignee_id)
        payload = {"cycle": one.state.cycle, "agent_id": agent_id, "team_id": one.state.team_id}
        due = now() + timedelta(seconds=inbox.survey.delay_seconds)
        planned.append(Timer(one.state.id, due, payload, one.state.account_id))
    await timers.schedule_all(tx, SURVEY, planned)
    await timers.schedule_all(tx, ARCHIVE, ends)
