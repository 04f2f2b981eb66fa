"""Teams."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, new_id
from relevo.contracts.identity import TeamState
from relevo.contracts.permissions import Permission
from relevo.identity import administration, problems
from relevo.identity.api.common import Body, Called, Name, after, ids
from relevo.identity.store import directory

router = APIRouter(tags=["teams"])
Reader = Annotated[Principal, Depends(require(Permission.DIRECTORY_READ, Permission.TEAMS_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.TEAMS_MANAGE))]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=r"^[^\x00]*$")]
Members = Annotated[list[UUID], Field(max_length=2000)]


class TeamOut(BaseModel):
    """A team. ``auto_assign``: its conversations are handed out automatically."""

    id: Id
    name: str
    description: str
    member_ids: list[Id]
    auto_assign: bool

    @classmethod
    def of(cls, state: TeamState) -> "TeamOut":
        return cls(**state.model_dump(exclude={"account_id"}))


class NewTeam(Body):
    name: Name
    description: Description = ""
    member_ids: Members = Field(default=[])
    auto_assign: bool = True


class TeamPatch(Body):
    """The fields that are given are changed; ``member_ids`` is the whole new list."""

    name: Name | None = None
    description: Description | None = None
    member_ids: Members | None = None
    auto_assign: bool | None = None

    def fields(self) -> dict[str, Any]:
        """The given fields as the state has them."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.member_ids is not None:
            given["member_ids"] = ids(self.member_ids)
        return given


@router.get("/teams")
async def list_teams(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[TeamOut]:
    """The teams of the account, in the order in which they were made."""
    async with db.begin() as tx:
        rows = await directory.teams(tx, who.account_id, after=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.state.id,), lambda row: TeamOut.of(row.state))


@router.post("/teams", status_code=201)
async def create_team(
    *, body: NewTeam, who: Manager, db: Db, caller: Called, once: Idempotency, response: Response
) -> TeamOut:
    """Make a team."""
    async with caller.act(db, who) as act:
        await once.start(act.tx)
        state = TeamState(
            id=new_id(),
            account_id=act.account,
            name=body.name,
            description=body.description,
            member_ids=ids(body.member_ids),
            auto_assign=body.auto_assign,
        )
        stored = await administration.save_team(act, None, state)
        tag(response, stored.version)
        return await once.finish(act.tx, TeamOut.of(stored.state))


@router.get("/teams/{team_id}")
async def get_team(team_id: UUID, who: Reader, db: Db, response: Response) -> TeamOut:
    async with db.begin() as tx:
        found = (await directory.teams_by_id(tx, who.account_id, [str(team_id)])).get(str(team_id))
    if found is None:
        raise problems.not_found("team")
    tag(response, found.version)
    return TeamOut.of(found.state)


@router.patch("/teams/{team_id}")
async def edit_team(
    *,
    team_id: UUID,
    body: TeamPatch,
    who: Manager,
    db: Db,
    caller: Called,
    response: Response,
    if_match: IfMatch = None,
) -> TeamOut:
    async with caller.act(db, who) as act:
        before = await administration.team(act, str(team_id))
        check_match(if_match, before.version, TeamOut.of(before.state))
        stored = await administration.save_team(act, before, before.state.model_copy(update=body.fields()))
    tag(response, stored.version)
    return TeamOut.of(stored.state)


@router.delete("/teams/{team_id}", status_code=204)
async def remove_team(team_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Remove a team; its members stay."""
    async with caller.act(db, who) as act:
        await administration.remove_team(act, await administration.team(act, str(team_id)))
