"""The durable timers of assignment: at their moment they write an input into the journal, and the matcher decides."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from relevo.assignment.domain.inputs import AgentDue, ConversationDue
from relevo.assignment.store import journals
from relevo.assignment.store.journals import Note
from relevo.chassis import timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer, Handler, Timer

CONVERSATION: Final = "conversation"
AGENT: Final = "agent"


async def schedule(tx: Tx, account_id: str, dues: Iterable[tuple[ConversationDue | AgentDue, datetime]]) -> None:
    """Set the timers, or move them. One whose moment is none any more is left: it rings once, and nothing comes of it."""
    conversations, agents = [], []
    for given, at in dues:
        if isinstance(given, ConversationDue):
            conversations.append(Timer(given.conversation_id, at, account_id=account_id))
        else:
            agents.append(Timer(given.agent_id, at, account_id=account_id))
    await timers.schedule_all(tx, CONVERSATION, conversations)
    await timers.schedule_all(tx, AGENT, agents)


def handlers(wake: Callable[[], None]) -> Mapping[str, Handler]:
    """What the timers do when they ring; `wake` is called after each commit that wrote into a journal."""

    def noting(model: type[ConversationDue | AgentDue]) -> Handler:
        async def note(due: Sequence[DueTimer], tx: Tx) -> None:
            await journals.append(tx, [Note(one.account_id, model(one.key)) for one in due])
            tx.after_commit(wake)

        return note

    return {CONVERSATION: noting(ConversationDue), AGENT: noting(AgentDue)}
