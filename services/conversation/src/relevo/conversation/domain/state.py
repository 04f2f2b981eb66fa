"""The state of one conversation, and what an act on it gives: (state, input, now) → the new state, and the events that tell of it.

The state is the snapshot that events carry. Every event is the next number of its conversation, and its snapshot is
the state right after it. Nothing in this package reads a clock, makes an id or does I/O.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relevo.contracts.conversation import ConversationEvent, OutboundMessage, OutboundUpdate
from relevo.contracts.inbound import Attachment
from relevo.contracts.snapshots import ConversationSnapshot, ConversationStatus, MessageSnapshot, Stage


class Refused(Exception):
    """What cannot be done; ``code`` is stable, the reason and the mend are in both languages.

    ``pointer`` names the field of the request at fault; without one it is the state that does not allow it.
    """

    def __init__(self, code: str, *, es: str, en: str, pointer: str | None = None) -> None:
        super().__init__(en)
        self.code = code
        self.es = es
        self.en = en
        self.pointer = pointer


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it stands.

    ``recipient_key`` is its customer's token in outbound subjects. ``exclusive``: opened under the policy
    ``always_one``, so it must not be unresolved beside another exclusive one of the same customer and inbox.
    """

    state: ConversationSnapshot
    recipient_key: str
    exclusive: bool = False

    @property
    def unresolved(self) -> bool:
        """Whether it is open, pending or snoozed."""
        return self.state.status != "resolved"


@dataclass(frozen=True, slots=True)
class Change:
    """What an act did: the state after it, its events in order, the message it made or changed, and what leaves.

    ``at`` is when it occurred. No events: nothing changed, or nothing that anybody must know.
    """

    conversation: Conversation
    at: datetime
    events: tuple[ConversationEvent, ...] = ()
    message: MessageSnapshot | None = None
    outbound: OutboundMessage | OutboundUpdate | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A customer's message. ``occurred_at`` is the provider's time and may be wrong; ``human`` whether a person wrote it."""

    id: str
    text: str
    external_id: str | None
    occurred_at: datetime
    author_name: str = ""
    reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()
    human: bool = True


@dataclass(frozen=True, slots=True)
class Writing:
    """What somebody of the team, or a rule, writes. ``author`` is an actor; ``human`` whether a person wrote it.

    ``fetchable`` are the ``attachments`` with addresses for the channel; ``reply_to`` is the message it answers, ``retry_of`` the failed one that it says again.
    """

    id: str
    text: str
    author: str
    author_name: str = ""
    human: bool = True
    reply_to: MessageSnapshot | None = None
    attachments: tuple[Attachment, ...] = ()
    fetchable: tuple[Attachment, ...] = ()
    retry_of: MessageSnapshot | None = None


def stage_of(status: ConversationStatus, *, archived: bool, first_reply_at: datetime | None) -> Stage:
    """What the inbox shows: archived, closed, new (no human has replied in this cycle) or in progress."""
    if archived:
        return "archived"
    if status == "resolved":
        return "closed"
    if status == "snoozed" or first_reply_at is not None:
        return "in_progress"
    return "new"


def following(conversation: Conversation, **changes: Any) -> Conversation:
    """The state after one more event; the only place where the number and the stage are set."""
    state = conversation.state
    changes["sequence"] = state.sequence + 1
    changes["stage"] = stage_of(
        changes.get("status", state.status),
        archived=changes.get("archived", state.archived),
        first_reply_at=changes.get("first_reply_at", state.first_reply_at),
    )
    return Conversation(state.model_copy(update=changes), conversation.recipient_key, conversation.exclusive)
