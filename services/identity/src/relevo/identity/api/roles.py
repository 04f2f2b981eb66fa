"""Roles."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, new_id
from relevo.contracts.identity import RoleState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.identity import administration, problems
from relevo.identity.api.common import Body, Called, Name, after
from relevo.identity.store import directory

router = APIRouter(tags=["roles"])
Reader = Annotated[
    Principal, Depends(require(Permission.DIRECTORY_READ, Permission.AGENTS_MANAGE, Permission.ROLES_MANAGE))
]
Manager = Annotated[Principal, Depends(require(Permission.ROLES_MANAGE))]


class RoleOut(BaseModel):
    """A role. Predefined ones keep their (English) name; the administrator's cannot be changed at all."""

    id: Id
    name: str
    permissions: list[Permission]
    scope: ConversationScope
    predefined: bool

    @classmethod
    def of(cls, state: RoleState) -> "RoleOut":
        return cls(
            id=state.id,
            name=state.name,
            permissions=sorted(state.permissions),
            scope=state.scope,
            predefined=state.predefined,
        )


class NewRole(Body):
    """Permissions and scope within one's own."""

    name: Name
    permissions: frozenset[Permission] = frozenset()
    scope: ConversationScope = ConversationScope.NONE


class RolePatch(Body):
    """The fields that are given are changed; ``permissions`` is the whole new set."""

    name: Name | None = None
    permissions: frozenset[Permission] | None = None
    scope: ConversationScope | None = None

    def fields(self) -> dict[str, Any]:
        """The given fields as the state has them."""
        return self.model_dump(exclude_none=True)


@router.get("/roles")
async def list_roles(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[RoleOut]:
    """The roles of the account, the predefined ones first."""
    async with db.begin() as tx:
        rows = await directory.roles(tx, who.account_id, after=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.state.id,), lambda row: RoleOut.of(row.state))


@router.post("/roles", status_code=201)
async def create_role(
    *, body: NewRole, who: Manager, db: Db, caller: Called, once: Idempotency, response: Response
) -> RoleOut:
    """Make a role of permissions that one holds oneself."""
    async with caller.act(db, who) as act:
        await once.start(act.tx)
        state = RoleState(
            id=new_id(), account_id=act.account, name=body.name, permissions=body.permissions, scope=body.scope
        )
        stored = await administration.save_role(act, None, state)
        tag(response, stored.version)
        return await once.finish(act.tx, RoleOut.of(stored.state))


@router.get("/roles/{role_id}")
async def get_role(role_id: UUID, who: Reader, db: Db, response: Response) -> RoleOut:
    async with db.begin() as tx:
        found = (await directory.roles_by_id(tx, who.account_id, [str(role_id)])).get(str(role_id))
    if found is None:
        raise problems.not_found("role")
    tag(response, found.version)
    return RoleOut.of(found.state)


@router.patch("/roles/{role_id}")
async def edit_role(
    *,
    role_id: UUID,
    body: RolePatch,
    who: Manager,
    db: Db,
    caller: Called,
    response: Response,
    if_match: IfMatch = None,
) -> RoleOut:
    """Change a role: for everybody who has it, at once. Their API keys lose what it loses."""
    async with caller.act(db, who) as act:
        before = await administration.role(act, str(role_id))
        check_match(if_match, before.version, RoleOut.of(before.state))
        stored = await administration.save_role(act, before, before.state.model_copy(update=body.fields()))
    tag(response, stored.version)
    return RoleOut.of(stored.state)


@router.delete("/roles/{role_id}", status_code=204)
async def remove_role(role_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Remove a role of one's own making that nobody has."""
    async with caller.act(db, who) as act:
        await administration.remove_role(act, await administration.role(act, str(role_id)))
