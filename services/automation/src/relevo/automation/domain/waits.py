"""Waits of rules: what makes them moot, and when they are over. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from relevo.automation.domain.actions import Pause, WaitUnless
from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationArchived,
    ConversationDeleted,
    ConversationEvent,
    ConversationMadePending,
    ConversationMerged,
    ConversationReopened,
    ConversationResolved,
    ConversationSnoozed,
    ConversationTakenOver,
    ConversationWoken,
    MessageCreated,
)
from relevo.kernel.business_time import Calendar, add_business_seconds

_EVERY: Final[frozenset[WaitUnless]] = frozenset(
    {"customer_answers", "agent_answers", "anyone_answers", "assigned", "status_changes", "nothing"}
)
_STATUS: Final[frozenset[WaitUnless]] = frozenset({"status_changes"})
_MOOT: Final[Mapping[type[Model], frozenset[WaitUnless]]] = {
    ConversationDeleted: _EVERY,
    ConversationMerged: _EVERY,
    ConversationResolved: _EVERY - {"nothing"},
    ConversationReopened: _STATUS,
    ConversationSnoozed: _STATUS,
    ConversationWoken: _STATUS,
    ConversationMadePending: _STATUS,
    ConversationTakenOver: _STATUS,
    ConversationArchived: _STATUS,
}
_MODELS: Final[tuple[type[Model], ...]] = (*_MOOT, MessageCreated, AssigneeChanged)
TYPES: Final = frozenset(BY_MODEL[model].name for model in _MODELS)
"""The types of the events that can make a wait moot."""


def moot_by(event: ConversationEvent) -> frozenset[WaitUnless]:
    """The waits of its conversation that an event makes moot, by what they wait for."""
    match event:
        case MessageCreated(human=True, message=message) if message.kind == "incoming":
            return frozenset({"customer_answers", "anyone_answers"})
        case MessageCreated(human=True, message=message) if message.kind == "outgoing":
            return frozenset({"agent_answers", "anyone_answers"})
        case AssigneeChanged(conversation=one) if one.assignee_id is not None:
            return frozenset({"assigned"})
        case _:
            return _MOOT.get(type(event), frozenset())


def over_at(pause: Pause, start: datetime, calendar: Calendar | None) -> datetime:
    """When a wait that began then is over. ``calendar``: the one that counts there, used where business minutes are asked for."""
    if pause.wait.business_hours and calendar is not None:
        try:
            found = add_business_seconds(calendar, start, pause.wait.minutes * 60)
        except ValueError:
            found = None
        if found is not None:
            return found
    return start + pause.lasts()
