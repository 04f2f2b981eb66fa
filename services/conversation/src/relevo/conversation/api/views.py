"""Saved views: filters and an order under a name, of one agent's own or shared."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.conversation import labels, lists
from relevo.conversation.api.asked import Asked, resolved_filters
from relevo.conversation.api.common import Body, Reader
from relevo.conversation.store import views as store
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean

router = APIRouter(tags=["views"])

MAX_VIEWS: Final = 50
"""An agent's own, and those that an account shares."""


def _name(value: str) -> str:
    name = " ".join(clean(value).split())
    if not name:
        es, en = "Ponle un nombre a la vista.", "Give the view a name."
        raise PydanticCustomError("empty_name", "{en}", {"es": es, "en": en})
    return name


class ViewBody(Body):
    """A view as it is written. What `me` means is settled by whoever opens it."""

    name: Annotated[str, StringConstraints(max_length=80), AfterValidator(_name)]
    shared: bool = Field(default=False, description="Everybody sees it; needs the permission `views.manage`.")
    filters: Asked = Field(description="As in the query of `GET /conversations`, `sort` included.")


class View(BaseModel):
    """A saved view."""

    id: str
    name: str
    shared: bool
    agent_id: str | None = Field(description="Who made it.")
    filters: Asked
    version: int
    created_at: Time
    updated_at: Time


class Views(BaseModel):
    """One's own views and the shared ones, by name."""

    items: list[View]


class ViewCount(BaseModel):
    """How many conversations a view holds; with ``more`` there are more than it says."""

    id: str
    count: int
    more: bool = False


class ViewCounts(BaseModel):
    """In the order of the views."""

    items: list[ViewCount]


@router.get("/views")
async def list_views(who: Reader, db: Db) -> Views:
    """One's own views and the shared ones, by name; a few dozen at most."""
    async with db.begin() as tx:
        return Views(items=[_shown(row) for row in await store.all_of(tx, who.viewer)])


@router.get("/views/counts")
async def count_views(who: Reader, db: Db) -> ViewCounts:
    """How many conversations one sees in each of one's views. Exact up to 1,000."""
    found = []
    async with db.begin() as tx:
        for row in await store.all_of(tx, who.viewer):
            view = _shown(row)
            try:
                n = await lists.count(tx, who.viewer, await resolved_filters(tx, view.filters, who))
            except Problem:  # it says `me`, and a key asks
                n = 0
            found.append(ViewCount(id=view.id, count=min(n, lists.COUNT_LIMIT), more=n > lists.COUNT_LIMIT))
    return ViewCounts(items=found)


@router.post("/views", status_code=201)
async def create_view(*, who: Reader, db: Db, once: Idempotency, response: Response, body: ViewBody) -> View:
    """Save a view."""
    _may_write(who, shared=body.shared)
    async with db.begin() as tx:
        await once.start(tx)
        await store.lock(tx, who.account_id)
        if await store.count(tx, who.account_id, None if body.shared else who.viewer.agent_id) >= MAX_VIEWS:
            raise Problem(
                409,
                "too_many_views",
                es=f"Ya hay {MAX_VIEWS} vistas: borra alguna.",
                en=f"There are {MAX_VIEWS} views already: delete one.",
            )
        moment = now()
        row = {
            "id": new_id(),
            "account_id": who.account_id,
            "agent_id": who.viewer.agent_id,
            "version": 1,
            "created_at": moment,
            "updated_at": moment,
            **await _written(tx, who, body),
        }
        await store.save(tx, row)
        tag(response, 1)
        return await once.finish(tx, _shown(row))


@router.get("/views/{view_id}")
async def get_view(who: Reader, db: Db, view_id: UUID, response: Response) -> View:
    """One view."""
    async with db.begin() as tx:
        row = await _found(tx, who, view_id)
    tag(response, row["version"])
    return _shown(row)


@router.put("/views/{view_id}")
async def edit_view(
    *, who: Reader, db: Db, response: Response, view_id: UUID, body: ViewBody, if_match: IfMatch = None
) -> View:
    """Change a view: one's own, or with `views.manage` a shared one."""
    async with db.begin() as tx:
        row = await _mine(tx, who, view_id, if_match)
        _may_write(who, shared=body.shared)
        if not body.shared and row["agent_id"] != who.viewer.agent_id:
            raise _not_yours()
        changed = {**row, **await _written(tx, who, body), "version": row["version"] + 1, "updated_at": now()}
        await store.save(tx, changed)
    tag(response, changed["version"])
    return _shown(changed)


@router.delete("/views/{view_id}", status_code=204)
async def delete_view(*, who: Reader, db: Db, view_id: UUID, if_match: IfMatch = None) -> None:
    """Delete a view: one's own, or with `views.manage` a shared one."""
    async with db.begin() as tx:
        await _mine(tx, who, view_id, if_match)
        await store.remove(tx, who.account_id, str(view_id))


async def saved(tx: Tx, who: Principal, view_id: UUID) -> Asked:
    """What a saved view asks for. Raises Problem 404."""
    return _shown(await _found(tx, who, view_id)).filters


async def _found(tx: Tx, who: Principal, view_id: UUID, *, lock: bool = False) -> Row:
    row = await store.read(tx, who.viewer, str(view_id), lock=lock)
    if row is None:
        raise Problem(404, "view_not_found", es="No existe esa vista.", en="There is no such view.")
    return row


async def _mine(tx: Tx, who: Principal, view_id: UUID, if_match: str | None) -> Row:
    row = await _found(tx, who, view_id, lock=True)
    _may_write(who, shared=row["shared"])
    check_match(if_match, row["version"], _shown(row))
    return row


def _may_write(who: Principal, *, shared: bool) -> None:
    if shared and not who.can(Permission.VIEWS_MANAGE):
        raise Problem(
            403,
            "permission_missing",
            es="Para las vistas compartidas hace falta el permiso «views.manage».",
            en="Shared views need the permission `views.manage`.",
        )
    if not shared and who.viewer.agent_id is None:
        raise Problem(
            422,
            "not_an_agent",
            es="Esta clave no representa a ningún agente: solo puede guardar vistas compartidas.",
            en="This key stands for no agent: it can save shared views only.",
        )


def _not_yours() -> Problem:
    return Problem(
        409,
        "view_of_another",
        es="Solo quien creó la vista puede dejar de compartirla: bórrala o guarda otra.",
        en="Only who made the view can share it no more: delete it, or save another one.",
    )


async def _written(tx: Tx, who: Principal, body: ViewBody) -> dict[str, Any]:
    kept = body.filters.model_dump(mode="json", exclude_defaults=True)
    if body.filters.label:
        kept["label"] = await labels.keys(tx, who.account_id, body.filters.label)
    return {"name": body.name, "shared": body.shared, "filters": kept, "sort": body.filters.sort}


def _shown(row: Row) -> View:
    return View.model_validate(dict(row))
