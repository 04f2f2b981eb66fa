"""Who owns a contact: the agent or the team whose customer they are, whoever is answering at the moment."""

from collections.abc import Collection
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.api.common import Body, apply_to_all
from relevo.conversation.api.contacts import ContactOut, answered, no_contact, write
from relevo.conversation.domain.profile import own
from relevo.conversation.domain.properties import owned_by
from relevo.conversation.store import merges, profiles

router = APIRouter(tags=["contacts"])

OwnerSetter = Annotated[Principal, Depends(require(Permission.CONTACT_OWNER_SET))]


class Owner(Body):
    """An agent, or a team, or nobody (both null)."""

    agent_id: UUID | None = None
    team_id: UUID | None = None


@router.put("/contacts/{contact_id}/owner")
async def set_contact_owner(
    *, who: OwnerSetter, db: Db, once: Idempotency, response: Response, contact_id: UUID, body: Owner
) -> ContactOut:
    """Say whose customer this is. The owner sees all of their conversations, and new ones go to the owner first.

    Handing a conversation to somebody else changes nothing of it.
    """
    if body.agent_id is not None and body.team_id is not None:
        raise Problem(
            422,
            "one_owner",
            es="El responsable es una persona o un equipo: indica uno de los dos.",
            en="The owner is an agent or a team: give one of the two.",
            errors=(FieldError("/team_id", es="Sobra este o agent_id.", en="This or agent_id is too much."),),
        )
    agent_id, team_id = (None if given is None else str(given) for given in (body.agent_id, body.team_id))
    async with db.begin() as tx:
        await once.start(tx)
        await _known(tx, who.account_id, agent_id, team_id)
        row = await profiles.read(tx, who.account_id, str(contact_id), lock="delete")
        if row is None:
            raise no_contact(await merges.into(tx, who.account_id, str(contact_id)))
        edited = own(profiles.person_of(row), owner_id=agent_id, owner_team_id=team_id)
        if edited.changed:
            await tell_conversations(tx, who, edited.person.snapshot)
            await write(tx, who, edited)
        return await once.finish(tx, answered(response, edited.person, row["last_activity_at"]))


async def _known(tx: Tx, account_id: str, agent_id: str | None, team_id: str | None) -> None:
    if agent_id is not None and all(
        agent.id != agent_id or not agent.active for agent in await directory.agents(tx, account_id)
    ):
        raise Problem(
            422,
            "agent_not_found",
            es="Esa persona no existe o ya no está en el equipo: elige a otra.",
            en="That agent does not exist or is no longer with the team: choose another.",
            errors=(FieldError("/agent_id", es="No existe.", en="Does not exist."),),
        )
    if team_id is not None and all(team.id != team_id for team in await directory.teams(tx, account_id)):
        raise Problem(
            422,
            "team_not_found",
            es="Ese equipo no existe: elige otro.",
            en="That team does not exist: choose another.",
            errors=(FieldError("/team_id", es="No existe.", en="Does not exist."),),
        )


async def tell_conversations(tx: Tx, who: Principal, contact: ContactSnapshot, *, but: Collection[str] = ()) -> None:
    """Have the conversations of a contact know their new owner, but for some.

    The contact is locked, and written afterwards: each tells who owned them before.
    """
    ids = await merges.conversations_of(tx, who.account_id, contact.id)
    wanted = [id_ for id_ in ids if id_ not in but]
    await apply_to_all(tx, who, wanted, lambda conversation, moment: owned_by(conversation, contact, moment))
