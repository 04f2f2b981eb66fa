"""Whom a note can mention: a mention makes its reader a participant, who sees the conversation then."""

from relevo.chassis import directory
from relevo.chassis.auth import viewer_of
from relevo.chassis.database import Tx
from relevo.contracts.identity import AgentState
from relevo.contracts.permissions import ConversationScope, Permission


async def agents(tx: Tx, account_id: str) -> list[AgentState]:
    """The active agents of an account whom taking part lets see a conversation."""
    roles = {role.id: role for role in await directory.roles(tx, account_id)}
    found = []
    for agent in await directory.agents(tx, account_id):
        role = roles.get(agent.role_id)
        if not agent.active or role is None:
            continue
        viewer = viewer_of(agent, role)
        if Permission.CONVERSATIONS_READ in viewer.permissions and viewer.scope is not ConversationScope.NONE:
            found.append(agent)
    return found
