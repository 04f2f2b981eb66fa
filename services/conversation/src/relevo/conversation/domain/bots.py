"""Bots: which conversations they get first, and how people get them back. Pure."""

from datetime import datetime, timedelta
from typing import Final

from relevo.contracts.conversation import ConversationTakenOver, HandOver
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain.state import Change, Conversation, Refused, following

MOST_IN_A_ROW: Final = 5
"""Messages that a bot may write without one of the customer between them."""
MOST_IN_A_WHILE: Final = 30
"""Messages of a bot in `A_WHILE` after which people get the conversation: two machines may be talking."""
A_WHILE: Final = timedelta(hours=1)


def goes_first(inbox: InboxState, contact: ContactSnapshot, *, attached: bool, human: bool) -> bool:
    """Whether a conversation that begins, or begins anew, is a bot's at first.

    Not when no bot is there, when no person wrote (nobody would answer a bounce), and where the inbox says so not when
    the contact has an owner.
    """
    owned = contact.owner_id is not None or contact.owner_team_id is not None
    return inbox.bot_first and attached and human and not (owned and inbox.bot_skips_owned)


def leave_to_people(conversation: Conversation, now: datetime, reason: HandOver) -> Change:
    """People have the conversation from now on. Raises Refused when no bot has it."""
    before = conversation.state
    if before.status != "pending":
        raise not_the_bots()
    since = max(now, before.opened_at) if before.first_reply_at is None else before.people_since
    conversation = following(conversation, status="open", people_since=since)
    event = ConversationTakenOver(conversation=conversation.state, before=before.access, reason=reason)
    return Change(conversation, now, (event,))


def not_the_bots() -> Refused:
    """What a bot is told that wants to act in a conversation that it does not have."""
    return Refused(
        "conversation_not_pending",
        es="La conversación no está pendiente: ya la llevan personas.",
        en="The conversation is not pending: people have it already.",
    )


def talks_alone(in_a_row: int) -> None:
    """Raises Refused when a bot has said enough without an answer."""
    if in_a_row >= MOST_IN_A_ROW:
        raise Refused(
            "bot_talks_alone",
            es=f"Ya van {MOST_IN_A_ROW} mensajes sin que el cliente conteste: espera a que escriba, o pásala a una persona.",
            en=f"These are {MOST_IN_A_ROW} messages without an answer: wait until the customer writes, or hand over.",
        )
