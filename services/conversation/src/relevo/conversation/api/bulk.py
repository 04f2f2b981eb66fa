"""One act on many conversations, named or filtered: a job with progress."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from relevo.chassis import timers
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.conversation.api.asked import Asked, resolved_filters
from relevo.conversation.api.common import Body
from relevo.conversation.bulk import BULK
from relevo.conversation.domain.macros import JobAct, KeptAct, RunMacro, RunningMacro, permission_of
from relevo.conversation.store import bulk as store
from relevo.conversation.store import macros
from relevo.conversation.store.rows import Row

router = APIRouter(tags=["conversations"])

Actor = Annotated[
    Principal,
    Depends(
        require(
            Permission.CONVERSATIONS_UPDATE,
            Permission.CONVERSATIONS_RESOLVE,
            Permission.CONVERSATIONS_ARCHIVE,
            Permission.CONVERSATIONS_LABEL,
            Permission.CONVERSATIONS_REPLY,
            Permission.CONVERSATIONS_NOTE,
            Permission.CONVERSATIONS_ASSIGN_SELF,
            Permission.CONVERSATIONS_ASSIGN_OTHERS,
        )
    ),
]

MAX_NAMED: Final = 1000
MAX_FOUND: Final = 10_000


class Wanted(Asked):
    """What the conversations of a job are."""

    model_config = ConfigDict(extra="forbid")


class NewBulk(Body):
    """An act, and the conversations: by their ids, or by a filter as lists have it."""

    act: JobAct
    ids: list[UUID] | None = Field(default=None, min_length=1, max_length=MAX_NAMED)
    filter: Wanted | None = None


class Refusal(BaseModel):
    """A conversation that it was not done to, and the code of the reason."""

    conversation_id: str
    code: str


class BulkJob(BaseModel):
    """How far it is. ``changed``: those that it made a difference to; ``refused``: those that did not allow it."""

    id: str
    state: Literal["running", "done", "cancelled"]
    total: int
    done: int
    changed: int
    refused: int
    refusals: list[Refusal] = Field(description="The first thousand or so.")
    created_at: Time
    finished_at: Time | None


@router.post("/conversations/bulk", status_code=202)
async def start_bulk(who: Actor, db: Db, once: Idempotency, body: NewBulk) -> BulkJob:
    """Do something to many conversations: up to 1,000 by id, up to 10,000 by a filter as it finds them now."""
    act = await _kept(db, who, body.act)
    for one in act.acts if isinstance(act, RunningMacro) else [act]:
        await require(permission_of(one))(who)
    if (body.ids is None) == (body.filter is None):
        es, en = "Indica «ids» o «filter», uno de los dos.", "Give `ids` or `filter`, one of them."
        raise Problem(422, "invalid_choice", es=es, en=en, errors=(FieldError("/ids", es=es, en=en),))
    async with db.begin() as tx:
        await once.start(tx)
        if body.filter is not None:
            filters = await resolved_filters(tx, body.filter, who)
            ids = await store.matching(tx, who.viewer, filters, MAX_FOUND + 1)
            if len(ids) > MAX_FOUND:
                es = "El filtro encuentra más de 10.000 conversaciones: acótalo."
                en = "The filter finds more than 10,000 conversations: narrow it."
                raise Problem(422, "too_many", es=es, en=en, errors=(FieldError("/filter", es=es, en=en),))
        else:
            ids = list(dict.fromkeys(str(id_) for id_ in body.ids or ()))
        job = await store.add(tx, who.account_id, new_id(), who.actor, act.model_dump(mode="json"), ids)
        if ids:
            await timers.schedule(tx, BULK, job["id"], now(), account_id=who.account_id)
        else:
            await store.move(tx, who.account_id, job["id"], done=0, changed=0, refusals=())
            job = await store.read(tx, who.account_id, who.actor, job["id"]) or job
        return await once.finish(tx, _shown(job))


@router.get("/conversations/bulk/{job_id}")
async def get_bulk(who: Actor, db: Db, job_id: UUID) -> BulkJob:
    """How far a job of one's own is."""
    async with db.begin() as tx:
        row = await store.read(tx, who.account_id, who.actor, str(job_id))
    if row is None:
        raise _no_job()
    return _shown(row)


@router.post("/conversations/bulk/{job_id}/cancel")
async def cancel_bulk(who: Actor, db: Db, once: Idempotency, job_id: UUID) -> BulkJob:
    """Do no more of it. What was done stays."""
    async with db.begin() as tx:
        await once.start(tx)
        row = await store.cancel(tx, who.account_id, who.actor, str(job_id))
        row = row or await store.read(tx, who.account_id, who.actor, str(job_id))
        if row is None:
            raise _no_job()
        return await once.finish(tx, _shown(row))


async def _kept(db: Db, who: Principal, act: JobAct) -> KeptAct:
    """What is to be done, as it is from now on: an edit of a macro changes no job that runs."""
    if not isinstance(act, RunMacro):
        return act
    async with db.begin() as tx:
        row = await macros.read(tx, who.account_id, who.viewer.agent_id, str(act.macro_id))
    if row is None:
        raise Problem(404, "macro_not_found", es="No existe esa macro.", en="There is no such macro.")
    return RunningMacro(do="macro", macro_id=act.macro_id, acts=row["acts"])


def _shown(row: Row) -> BulkJob:
    return BulkJob.model_validate(dict(row))


def _no_job() -> Problem:
    return Problem(404, "job_not_found", es="No existe esa tarea.", en="There is no such job.")
