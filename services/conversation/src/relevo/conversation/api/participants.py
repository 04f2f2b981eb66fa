"""Who takes part in a conversation, and whom its notes mention."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.api.common import SEQUENCE, Body, apply, locked
from relevo.conversation.domain import participants
from relevo.conversation.domain.state import Change, Conversation

router = APIRouter(tags=["conversations"])

Updater = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_UPDATE))]


class ParticipantChange(Body):
    """Agents who take part from now on, and others who do no more; one named in both takes part."""

    add: list[UUID] = Field(default=[], max_length=50)
    remove: list[UUID] = Field(default=[], max_length=50)


@router.post("/conversations/{conversation_id}/participants")
async def change_participants(
    *, who: Updater, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: ParticipantChange
) -> ConversationSnapshot:
    """Let agents take part in a conversation, whatever their inboxes and teams, or no more."""
    add, remove = [str(id_) for id_ in body.add], [str(id_) for id_ in body.remove]
    async with db.begin() as tx:
        await once.start(tx)
        if add:
            active = {agent.id for agent in await directory.agents(tx, who.account_id) if agent.active}
            if unknown := [n for n, id_ in enumerate(add) if id_ not in active]:
                raise Problem(
                    422,
                    "unknown_agent",
                    es="Se añade a alguien que no existe.",
                    en="Somebody is added who does not exist.",
                    errors=[
                        FieldError(f"/add/{n}", es="No existe ese agente.", en="There is no such agent.")
                        for n in unknown
                    ],
                )

        def act(conversation: Conversation, moment: datetime) -> Change:
            return participants.change_participants(conversation, add, remove, moment)

        change = await apply(tx, who, await locked(tx, who, conversation_id), act)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.conversation.state)
