"""Business hours on the events of a conversation: what the calendar that counts there says as of the event."""

from datetime import datetime
from typing import Any

from relevo.contracts.conversation import ConversationEvent, ConversationResolved, MessageCreated
from relevo.kernel.calendars import Calendars, Counting


def with_business_hours(event: ConversationEvent, known: Calendars, at: datetime) -> ConversationEvent:
    """The event with what the calendar says of ``at``, when it occurred; as it was where no calendar counts."""
    state = event.conversation
    counting = known.of(inbox_id=state.inbox_id, team_id=state.team_id)
    said = counting.at(at) if counting else None
    if counting is None or said is None:
        return event
    return event.model_copy(update={"business_hours": said, **_durations(event, counting)})


def _durations(event: ConversationEvent, counting: Counting) -> dict[str, Any]:
    """Business time between the very moments whose clock time reports tell."""
    state = event.conversation
    found: dict[str, Any] = {}
    match event:
        case ConversationResolved() if state.resolved_at:
            found["resolution_business_seconds"] = counting.seconds(state.opened_at, state.resolved_at)
        case MessageCreated(human=True):
            if event.first_reply and state.first_reply_at:
                found["first_reply_business_seconds"] = counting.seconds(state.answerable_since, state.first_reply_at)
            if event.answered_since:
                found["answered_business_seconds"] = counting.seconds(event.answered_since, event.message.occurred_at)
        case _:
            pass
    return found
