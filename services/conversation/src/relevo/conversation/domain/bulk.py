"""One act on many conversations."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from relevo.contracts.base import Time
from relevo.contracts.conversation import Label
from relevo.contracts.snapshots import Priority
from relevo.conversation.domain import life, properties, snooze
from relevo.conversation.domain.state import Change, Conversation


class Act(BaseModel):
    """Something to do to a conversation."""

    model_config = ConfigDict(extra="forbid")


class Close(Act):
    """Resolve, archive, wake, leave to the bot or take over."""

    do: Literal["resolve", "archive", "wake", "pending", "take_over"]


class PutOff(Act):
    """Snooze; without `until`, until the customer writes."""

    do: Literal["snooze"]
    until: Time | None = None


class Relabel(Act):
    """Put labels on, take others off."""

    do: Literal["labels"]
    add: list[Label] = Field(default=[], max_length=50)
    remove: list[Label] = Field(default=[], max_length=50)


class Prioritise(Act):
    """Say how urgent they are."""

    do: Literal["priority"]
    priority: Priority | None


BulkAct = Annotated[Close | PutOff | Relabel | Prioritise, Field(discriminator="do")]


_CLOSING: dict[str, Callable[[Conversation, datetime], Change]] = {
    "resolve": life.resolve,
    "archive": life.archive,
    "wake": snooze.wake,
    "pending": snooze.make_pending,
    "take_over": snooze.take_over,
}


def apply(act: BulkAct, conversation: Conversation, now: datetime) -> Change:
    """Do it to one. Raises Refused."""
    match act:
        case Close():
            return _CLOSING[act.do](conversation, now)
        case PutOff():
            return snooze.snooze(conversation, act.until, now)
        case Relabel():
            return properties.change_labels(conversation, act.add, act.remove, now)
        case Prioritise():
            return properties.set_priority(conversation, act.priority, now)
