"""A rule's time comes for many conversations: found once, then told a piece at a time, so that nobody waits behind it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from relevo.chassis.calendars import calendars
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.chassis.timers import DueTimer, Timer, schedule_all
from relevo.contracts.base import now
from relevo.contracts.conversation import REVIEWED_AT_MOST, ConversationReviewed, ReviewConversations
from relevo.conversation import store
from relevo.conversation.domain.reviews import concerns
from relevo.conversation.store import reviews

REVIEW: Final = "review"
"""The timers of reviews: one for each piece of what was found."""
log = structlog.get_logger("relevo.conversation")

PIECE: Final = 100
_APART: Final = timedelta(seconds=0.2)
"""Between two pieces: at most five hundred conversations a second are told of, beside everything else."""
_AT_ONCE: Final = 5
"""Pieces in one transaction, when they are late."""


async def ask(tx: Tx, asked: Sequence[Received]) -> None:
    """Find what is asked for, and set the timers of its pieces."""
    pieces = []
    for received in asked:
        data, account = received.data, received.envelope.account
        assert isinstance(data, ReviewConversations)
        begun = now()
        told = data.model_dump(mode="json")
        found = await reviews.found(tx, account, data)
        cut = len(found) == REVIEWED_AT_MOST
        log.info("review", account=account, rule=data.rule_id, conversations=len(found), cut_at_most=cut)
        for number, start in enumerate(range(0, len(found), PIECE)):
            payload = {"asked": told, "ids": found[start : start + PIECE]}
            pieces.append(Timer(f"{received.envelope.id}:{number}", begun + number * _APART, payload, account))
    await schedule_all(tx, REVIEW, pieces)


async def on_review(due: Sequence[DueTimer], tx: Tx) -> None:
    """Tell of each conversation of these pieces as it is now; what has become otherwise since it was found is left out."""
    at_once, later = due[:_AT_ONCE], due[_AT_ONCE:]
    locked = await store.conversations.lock(
        tx, ((one.account_id, id_) for one in at_once for id_ in one.payload["ids"])
    )
    counting = await calendars(tx, {one.account_id for one in at_once})
    moment = now()
    for one in at_once:
        asked = ReviewConversations.model_validate(one.payload["asked"])
        for id_ in one.payload["ids"]:
            conversation = locked.get((one.account_id, id_))
            if conversation is None or not concerns(asked, conversation.state):
                continue
            state = conversation.state
            calendar = counting[one.account_id].of(inbox_id=state.inbox_id, team_id=state.team_id)
            told = ConversationReviewed(
                rule_id=asked.rule_id,
                due_at=asked.due_at,
                conversation=state,
                business_hours=calendar.at(moment) if calendar else None,
            )
            tx.emit(told, account=one.account_id, entity=id_, actor="system", time=moment)
    await schedule_all(tx, REVIEW, [Timer(one.key, moment, one.payload, one.account_id) for one in later])
