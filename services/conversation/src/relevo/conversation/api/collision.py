"""Two answers to one question: who writes is told when a colleague replied since they looked, and loses nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import text

from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem
from relevo.contracts.base import now
from relevo.contracts.snapshots import ConversationSnapshot, MessageSnapshot
from relevo.conversation.store import desk
from relevo.conversation.store.messages import MESSAGE_COLUMNS, message_of
from relevo.conversation.store.rows import plain

SeenThrough = Annotated[
    int | None,
    Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description=(
            "The `sequence` up to which one has seen the conversation. When a colleague replied to the customer since then,"
            " a reply is refused (409 `colleague_replied`, with what they said) and kept as the draft; sent again with the"
            " `sequence` of that answer it goes out."
        ),
    ),
]
_TOLD: Final = 20

_REPLIES = text(
    f"""
    select {MESSAGE_COLUMNS} from messages m
    where m.conversation_id = cast(:conversation as uuid) and m.account_id = cast(:account as uuid)
        and m.sequence > :seen and m.kind = 'outgoing' and m.author like 'agent:%' and m.author <> :me
    order by m.sequence limit {_TOLD}
    """
)


class ColleagueReplied(Problem):
    """409: somebody else of the team answered the customer meanwhile."""

    def __init__(self, state: ConversationSnapshot, replies: list[MessageSnapshot]) -> None:
        super().__init__(
            409,
            "colleague_replied",
            es="Otra persona ha respondido desde que abriste la conversación: lee su respuesta; tu texto está guardado como borrador.",
            en="Somebody else has replied since you opened the conversation: read their reply; your text is kept as a draft.",
            extra={
                "sequence": state.sequence,
                "replies": [reply.model_dump(mode="json") for reply in replies],
            },
        )


async def nobody_replied_since(tx: Tx, who: Principal, state: ConversationSnapshot, seen: int | None) -> None:
    """Raises ColleagueReplied. The conversation is locked, so that nobody replies between this and the write."""
    if seen is None or seen >= state.sequence:
        return
    where = {"account": state.account_id, "conversation": state.id, "seen": seen, "me": who.actor}
    replies = [message_of(row) for row in plain(await tx.execute(_REPLIES, where))]
    if replies:
        raise ColleagueReplied(state, replies)


@asynccontextmanager
async def kept(db: Db, who: Principal, conversation_id: UUID, said: str) -> AsyncIterator[None]:
    """What was not sent because a colleague replied stays as the agent's draft; a key has none, and keeps its text itself."""
    try:
        yield
    except ColleagueReplied:
        if who.viewer.agent_id is not None and said.strip():
            async with db.begin() as tx:
                await desk.keep_draft(
                    tx, who.account_id, who.viewer.agent_id, str(conversation_id), said=said, private=False, at=now()
                )
        raise
