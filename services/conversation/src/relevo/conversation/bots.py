"""What bots are told of the conversations that they have, and what happens when they say nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from relevo.chassis import directory, timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import Timer
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import (
    BotEvent,
    ConversationEvent,
    ConversationMadePending,
    MessageCreated,
)
from relevo.contracts.envelope import Envelope
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.domain.state import Change
from relevo.conversation.store import bots

BOT: Final = "bot"
"""The timers of conversations whose bot has not answered yet, by conversation id."""


class Turns:
    """What a transaction does to conversations that a bot has, or has no longer."""

    def __init__(self) -> None:
        self._changes: list[tuple[Change, bool, str, Envelope | None]] = []

    def note(self, before: ConversationSnapshot | None, change: Change, actor: str, cause: Envelope | None) -> None:
        """Take an act into account, if a bot had or has its conversation."""
        had = before is not None and before.status == "pending"
        if change.events and (had or change.conversation.state.status == "pending"):
            self._changes.append((change, had, actor, cause))

    async def tell(self, tx: Tx) -> None:
        """Tell the bots, and set or stop the clocks of those that are to answer."""
        if not self._changes:
            return
        states = [change.conversation.state for change, *_ in self._changes]
        known = await bots.attached(tx, (s.account_id for s in states), (s.inbox_id for s in states))
        inboxes = await directory.inboxes(tx, (s.inbox_id for s in states))
        waiting: dict[str, Timer] = {}
        stopped: set[str] = set()
        for change, had, actor, cause in self._changes:
            state = change.conversation.state
            bot, inbox = known.get(state.inbox_id), inboxes.get(state.inbox_id)
            told, asked = _told(change, had)
            if state.status != "pending" or _answered(change.events, actor):
                stopped.add(state.id)
                waiting.pop(state.id, None)
            elif asked and (due := _due(bot, inbox, now())):
                waiting.setdefault(state.id, Timer(state.id, due, account_id=state.account_id))
            for event in told if bot else ():
                tx.emit(
                    event.model_copy(update={"bot_id": bot}),
                    account=state.account_id,
                    entity=state.id,
                    actor=actor,
                    cause=cause,
                )
        if stopped:
            await timers.cancel(tx, BOT, *stopped)
        await timers.schedule_all(tx, BOT, waiting.values(), move=False)


def _told(change: Change, had: bool) -> tuple[list[BotEvent], bool]:
    """What there is to tell, and whether the bot is to say something now."""
    found: list[BotEvent] = []
    for event in change.events:
        match event:
            case MessageCreated(human=True) if event.message.kind == "incoming":
                if event.conversation.status == "pending":
                    found.append(_event(event, "message"))
            case ConversationMadePending():
                found.append(_event(event, "given"))
            case _ if had and event.conversation.status != "pending":
                found.append(_event(event, "over"))
                had = False
            case _:
                pass
    return found, any(event.kind != "over" for event in found)


def _event(event: ConversationEvent, kind: Literal["message", "given", "over"]) -> BotEvent:
    state, message = event.conversation, event.message if isinstance(event, MessageCreated) else None
    return BotEvent(
        event_id=new_id(),
        bot_id=state.inbox_id,
        kind=kind,
        conversation_id=state.id,
        inbox_id=state.inbox_id,
        number=state.number,
        message_id=message.id if message else None,
        text=message.text if message else "",
        attachments=len(message.attachments) if message else 0,
        contact_name=state.contact.name if kind != "over" else "",
        language=state.language or state.contact.language,
        owned=state.contact.owner_id is not None or state.contact.owner_team_id is not None,
        at=message.created_at if message else now(),
    )


def _answered(events: Sequence[ConversationEvent], actor: str) -> bool:
    return actor.startswith("bot:") and any(
        isinstance(event, MessageCreated) and event.message.kind == "outgoing" for event in events
    )


def _due(bot: str | None, inbox: InboxState | None, moment: datetime) -> datetime | None:
    """Until when the bot may be silent; at once where there is none any more; None: nobody expects one here."""
    if inbox is None:
        return moment
    if bot is None:
        return moment if inbox.bot_first else None
    return moment + timedelta(seconds=inbox.bot_timeout_seconds)


async def attached(tx: Tx, inboxes: Sequence[InboxState]) -> frozenset[str]:
    """Those of these inboxes that give conversations to a bot first and have one."""
    first = [inbox for inbox in inboxes if inbox.bot_first]
    if not first:
        return frozenset()
    return frozenset(await bots.attached(tx, (i.account_id for i in first), (i.id for i in first)))
