"""What one transaction does to conversations: gathered act by act, written at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic_core import to_json

from relevo.chassis import timers
from relevo.chassis.calendars import calendars
from relevo.chassis.crash import crash_point
from relevo.chassis.database import Tx
from relevo.chassis.timers import Timer
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.conversation import (
    ContactCreated,
    ConversationEvent,
    ConversationResolved,
    ConversationSnoozed,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
)
from relevo.contracts.envelope import Envelope
from relevo.contracts.snapshots import ContactSnapshot, MessageSnapshot
from relevo.conversation import store
from relevo.conversation.bots import Turns
from relevo.conversation.domain import activity
from relevo.conversation.domain.activity import Line
from relevo.conversation.domain.business_hours import with_business_hours
from relevo.conversation.domain.state import Change, Conversation
from relevo.conversation.resolutions import Resolution, follow
from relevo.conversation.store.messages import StoredMessage
from relevo.conversation.store.rows import Key

SNOOZE: Final = "snooze"
"""The timers of snoozed conversations, by conversation id. One that its conversation no longer waits for does nothing."""

SEND: Final = "send"
"""The timers of messages that wait to be sent, by message id."""


@dataclass(frozen=True, slots=True)
class _Emission:
    data: Model
    account_id: str
    entity: str
    actor: str
    sequence: int
    at: datetime
    cause: Envelope | None


class Changes:
    """The conversations that a transaction holds locked, as they become, with the events that tell of it, in order."""

    def __init__(self, conversations: Mapping[Key, Conversation]) -> None:
        self.conversations = dict(conversations)
        self._changed: set[Key] = set()
        self._messages: dict[str, StoredMessage] = {}
        self._rewritten: list[tuple[str, MessageSnapshot, str]] = []
        self._lines: list[StoredMessage] = []
        self._timers: dict[str, Timer] = {}
        self._resolutions: dict[str, Resolution] = {}
        self._emissions: list[_Emission] = []
        self._turns = Turns()

    def apply(self, change: Change, *, actor: str, cause: Envelope | None = None) -> None:
        """Take an act over: its state, its message, its events, and what leaves for the customer."""
        state = change.conversation.state
        account_id = state.account_id
        key = (account_id, state.id)
        before = self.conversations.get(key)
        self._turns.note(before.state if before else None, change, actor, cause)
        if before is not change.conversation:
            self.conversations[key] = change.conversation
            self._changed.add(key)
        if change.message and isinstance(change.events[-1], MessageEdited | MessageDeleted | MessageReacted):
            self._rewritten.append((account_id, change.message, actor))
        elif change.message:
            self._messages[change.message.id] = StoredMessage(account_id, change.message, cause=_named(cause))
        for event in change.events:
            sequence = event.conversation.sequence
            self._emissions.append(_Emission(event, account_id, state.id, actor, sequence, change.at, cause))
            if line := activity.line_of(event):
                self._lines.append(_activity(event, line, actor, change.at, cause))
            if isinstance(event, ConversationResolved):
                self._resolutions[state.id] = Resolution(event.conversation, actor)
            if isinstance(event, ConversationSnoozed) and event.conversation.snoozed_until:
                self._timers[state.id] = Timer(state.id, event.conversation.snoozed_until, account_id=account_id)
        if change.outbound:
            self._emissions.append(_Emission(change.outbound, account_id, state.id, actor, 0, change.at, cause))

    def contact_created(self, account_id: str, contact: ContactSnapshot, at: datetime, cause: Envelope) -> None:
        """Tell of a new contact: the first event of its own."""
        data = ContactCreated(contact=contact)
        self._emissions.append(_Emission(data, account_id, contact.id, f"contact:{contact.id}", 1, at, cause))

    def withhold(self, account_id: str, contact: ContactSnapshot, message: MessageSnapshot) -> None:
        """Keep a blocked contact's message in no conversation; nobody is told."""
        self._messages[message.id] = StoredMessage(account_id, message, withheld_from=contact.id)

    async def save(self, tx: Tx) -> None:
        """Write it all: one statement for conversations, one for messages, one for timers; the events commit with them."""
        await store.conversations.save(tx, [self.conversations[key] for key in sorted(self._changed)])
        crash_point("conversation.between_conversations_and_messages")
        await store.messages.save(tx, [*self._messages.values(), *self._lines])
        for account_id, message, actor in self._rewritten:
            await store.messages.rewrite(tx, account_id, message, actor)
        await timers.schedule_all(tx, SNOOZE, self._timers.values())
        await follow(tx, list(self._resolutions.values()))
        await self._turns.tell(tx)
        crash_point("conversation.before_events")
        told = [emission for emission in self._emissions if isinstance(emission.data, ConversationEvent)]
        known = await calendars(tx, {emission.account_id for emission in told})
        for emission in self._emissions:
            data = emission.data
            if isinstance(data, ConversationEvent):
                data = with_business_hours(data, known[emission.account_id], emission.at)
            tx.emit(
                data,
                account=emission.account_id,
                entity=emission.entity,
                actor=emission.actor,
                sequence=emission.sequence,
                time=emission.at,
                cause=emission.cause,
            )


def _activity(event: ConversationEvent, line: Line, actor: str, at: datetime, cause: Envelope | None) -> StoredMessage:
    """The row of an activity line: it has the number of the event that it tells of."""
    state = event.conversation
    message = MessageSnapshot(
        id=new_id(),
        conversation_id=state.id,
        kind="activity",
        sequence=state.sequence,
        text="",
        author=actor,
        occurred_at=at,
        created_at=now(),
    )
    told = to_json({"code": line.code, **line.values}).decode()
    return StoredMessage(state.account_id, message, activity=told, cause=_named(cause))


def _named(cause: Envelope | None) -> str | None:
    return f"{cause.type}/{cause.id}" if cause else None
