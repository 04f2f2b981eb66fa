"""What follows when conversations were resolved: their customers are asked how they were served, a little later."""

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


@dataclass(frozen=True, slots=True)
class Resolution:
    """A conversation as it was when it was resolved, and who did it."""

    state: ConversationSnapshot
    actor: str


async def follow(tx: Tx, resolutions: Sequence[Resolution]) -> None:
    """Set the timers of the surveys that their inboxes ask for."""
    if not resolutions:
        return
    inboxes = await directory.inboxes(tx, (one.state.inbox_id for one in resolutions))
    planned = []
    for one in resolutions:
        inbox = inboxes.get(one.state.inbox_id)
        if inbox is None or inbox.survey is None:
            continue
        agent_id = credited(one.actor, one.state.assignee_id)
        payload = {"cycle": one.state.cycle, "agent_id": agent_id, "team_id": one.state.team_id}
        due = now() + timedelta(seconds=inbox.survey.delay_seconds)
        planned.append(Timer(one.state.id, due, payload, one.state.account_id))
    await timers.schedule_all(tx, SURVEY, planned)
