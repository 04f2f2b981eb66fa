"""Who takes part in a conversation besides its assignee."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from relevo.contracts.conversation import ParticipantsChanged
from relevo.conversation.domain.state import Change, Conversation, Refused, following

MAX_PARTICIPANTS: Final = 100


def change_participants(conversation: Conversation, add: Iterable[str], remove: Iterable[str], now: datetime) -> Change:
    """Let people take part, and others no more; one named in both takes part. Raises Refused above MAX_PARTICIPANTS."""
    before = conversation.state
    wanted = dict.fromkeys(add)
    off = set(remove) - wanted.keys()
    removed = tuple(one for one in before.participant_ids if one in off)
    added = tuple(one for one in wanted if one not in before.participant_ids)
    if not removed and not added:
        return Change(conversation, now)
    present = (*(one for one in before.participant_ids if one not in off), *added)
    if added and len(present) > MAX_PARTICIPANTS:
        raise Refused(
            "too_many_participants",
            es=f"En una conversación participan como mucho {MAX_PARTICIPANTS} personas: quita alguna.",
            en=f"At most {MAX_PARTICIPANTS} people take part in a conversation: remove somebody.",
        )
    conversation = following(conversation, participant_ids=present)
    event = ParticipantsChanged(conversation=conversation.state, before=before.access, added=added, removed=removed)
    return Change(conversation, now, (event,))
