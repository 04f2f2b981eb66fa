"""Who holds a conversation: assignment decides, and its decision becomes part of the story."""

from dataclasses import replace
from datetime import datetime
from typing import Literal

from relevo.contracts.conversation import AssigneeChanged
from relevo.conversation.domain.state import Change, Conversation, following


def fold_assignment(
    conversation: Conversation,
    *,
    version: int,
    assignee_id: str | None,
    team_id: str | None,
    reason: str,
    mode: Literal["automatic", "manual", "automation"],
    at: datetime,
) -> Change:
    """Assignment's decision becomes part of the story; a version that is not newer is dropped.

    A newer version that changes nobody (such as joining the queue again) is remembered without an event.
    """
    before = conversation.state
    if version <= before.assignment_version:
        return Change(conversation, at)
    if (assignee_id, team_id) == (before.assignee_id, before.team_id):
        known = replace(conversation, state=before.model_copy(update={"assignment_version": version}))
        return Change(known, at)
    conversation = following(conversation, assignee_id=assignee_id, team_id=team_id, assignment_version=version)
    event = AssigneeChanged(
        conversation=conversation.state,
        before=before.access,
        from_assignee_id=before.assignee_id,
        from_team_id=before.team_id,
        reason=reason,
        mode=mode,
    )
    return Change(conversation, at, (event,))
