"""What comes due: timers that were set in a conversation's own transaction."""

from collections.abc import Mapping, Sequence
from typing import Final

from relevo.chassis import directory, timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer, Handler, Timer
from relevo.contracts.base import now
from relevo.conversation import store
from relevo.conversation.bots import BOT
from relevo.conversation.bulk import BULK, on_bulk
from relevo.conversation.changes import SEND, SNOOZE, Changes
from relevo.conversation.domain import life, snooze, writing
from relevo.conversation.domain.state import Refused, Writing
from relevo.conversation.labels import LABELS, on_labels
from relevo.conversation.reminders import REMINDER, on_reminder
from relevo.conversation.resolutions import ARCHIVE
from relevo.conversation.reviews import REVIEW, on_review
from relevo.conversation.silent_bots import on_silent
from relevo.conversation.store import waiting


async def on_snooze(due: Sequence[DueTimer], tx: Tx) -> None:
    """Snoozed conversations wake: those that still wait for this moment."""
    changes = Changes(await store.conversations.lock(tx, ((timer.account_id, timer.key) for timer in due)))
    moment = now()
    for timer in due:
        if conversation := changes.conversations.get((timer.account_id, timer.key)):
            changes.apply(snooze.come_due(conversation, timer.due_at, moment), actor="system")
    await changes.save(tx)


async def on_send(due: Sequence[DueTimer], tx: Tx) -> None:
    """Messages whose time has come are sent; one that its conversation does not allow stays aside, with the reason."""
    keys = [(timer.account_id, timer.key) for timer in due]
    of = [(one.account_id, one.conversation_id) for one in (await waiting.find(tx, keys)).values()]
    changes = Changes(await store.conversations.lock(tx, of))
    found = await waiting.lock(tx, keys)
    quoted = await store.messages.find(tx, ((w.account_id, w.reply_to) for w in found.values() if w.reply_to))
    moment = now()
    for timer in due:
        one = found.get(timer.key)
        if one is None:
            continue  # undone meanwhile
        conversation = changes.conversations.get((one.account_id, one.conversation_id))
        if conversation is None:
            await waiting.refuse(tx, one, "conversation_not_found")
            continue
        actor = f"agent:{one.agent_id}"
        answered = quoted.get((one.account_id, one.reply_to)) if one.reply_to else None
        said = Writing(one.id, one.text, actor, one.author_name, reply_to=answered)
        try:
            changes.apply(writing.reply(conversation, said, moment), actor=actor)
        except Refused as refused:
            await waiting.refuse(tx, one, refused.code)
        else:
            await waiting.sent(tx, one)
    await changes.save(tx)


async def on_archive(due: Sequence[DueTimer], tx: Tx) -> None:
    """What has been resolved for as long as its inbox says now is archived; where it says longer now, then."""
    changes = Changes(await store.conversations.lock(tx, ((timer.account_id, timer.key) for timer in due)))
    inboxes = await directory.inboxes(tx, (one.state.inbox_id for one in changes.conversations.values()))
    moment = now()
    later = []
    for (account_id, id_), conversation in list(changes.conversations.items()):
        inbox = inboxes.get(conversation.state.inbox_id)
        when = life.archive_due(conversation, inbox.archive_after_days if inbox else None)
        if when is not None and when > moment:
            later.append(Timer(id_, when, account_id=account_id))
        elif when is not None:
            changes.apply(life.archive(conversation, moment), actor="system")
    await changes.save(tx)
    await timers.schedule_all(tx, ARCHIVE, later)


TIMERS: Final[Mapping[str, Handler]] = {
    SNOOZE: on_snooze,
    SEND: on_send,
    BULK: on_bulk,
    LABELS: on_labels,
    REMINDER: on_reminder,
    ARCHIVE: on_archive,
    BOT: on_silent,
    REVIEW: on_review,
}
"""What comes due in this service, by kind."""
