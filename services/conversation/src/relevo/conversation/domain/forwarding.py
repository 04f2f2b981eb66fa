"""What was said in a conversation, sent to somebody by e-mail."""

from collections.abc import Sequence
from datetime import datetime

from relevo.contracts.conversation import ConversationForwarded
from relevo.conversation.domain.state import Change, Conversation, following


def forward(conversation: Conversation, addresses: Sequence[str], now: datetime, *, with_notes: bool) -> Change:
    """Keep that it was sent, and to whom: a trace for the team, whatever becomes of the e-mail."""
    before = conversation.state
    conversation = following(conversation)
    event = ConversationForwarded(
        conversation=conversation.state, before=before.access, addresses=tuple(addresses), with_notes=with_notes
    )
    return Change(conversation, now, (event,))
