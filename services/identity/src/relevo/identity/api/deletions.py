"""Deleting the whole account; and what became of deleted accounts, for whoever operates."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.accounts import RowsDropped
from relevo.contracts.base import Id, Time
from relevo.contracts.permissions import Permission
from relevo.identity import deletions, problems
from relevo.identity.api.common import AnyText, Body, Called, Person, after
from relevo.identity.api.me import verified_password
from relevo.identity.api.setup import Operator, check_token
from relevo.identity.store import deletions as store
from relevo.identity.store import sign_in
from relevo.identity.store.deletions import Certificate, Deletion, State

router = APIRouter(tags=["account"])
Manager = Annotated[Principal, Depends(require(Permission.ACCOUNT_MANAGE))]


class DeletionRequest(Body):
    """``name``: the account's, to the letter. ``password``: one's own, where one has one: an open session is not enough."""

    name: AnyText
    password: AnyText | None = Field(None, repr=False)


class DeletionOut(BaseModel):
    """Until ``due_at`` everything works, and it can be called off."""

    asked_at: Time
    asked_by_name: str
    due_at: Time


def _shown(deletion: Deletion) -> DeletionOut:
    return DeletionOut(asked_at=deletion.asked_at, asked_by_name=deletion.asked_by_name, due_at=deletion.due_at)


@router.post("/account/deletion", status_code=202)
async def ask_for_deletion(body: DeletionRequest, who: Manager, _: Person, db: Db, caller: Called) -> DeletionOut:
    """Have the whole account deleted once the time of grace is over. Everybody who administers it is told."""
    async with db.begin() as tx:
        has_password = await sign_in.password(tx, who.account_id, who.id) is not None
    if has_password:
        await verified_password(db, caller, who, body.password or "", "/password")
    async with caller.act(db, who) as act:
        return _shown(await deletions.ask(act, caller.settings, body.name))


@router.get("/account/deletion")
async def get_deletion(who: Manager, db: Db) -> DeletionOut:
    """The deletion that was asked for. 404: none was."""
    async with db.begin() as tx:
        found = await store.find(tx, who.account_id)
    if found is None:
        raise problems.not_found("account_deletion")
    return _shown(found)


@router.delete("/account/deletion", status_code=204)
async def call_deletion_off(who: Manager, db: Db, caller: Called) -> None:
    """Call the deletion off: the account stays as it is."""
    async with caller.act(db, who) as act:
        await deletions.call_off(act)


class PartOut(BaseModel):
    """What a service held, in numbers. ``done_at`` null: it has still to look again."""

    service: str
    tables: list[RowsDropped] = []
    log: int = 0
    messages: int = 0
    files: int = 0
    dropped_at: Time | None = None
    done_at: Time | None = None


class CertificateOut(BaseModel):
    """What becomes of an account after its time of grace. With ``done_at``, nothing of it is held any more."""

    id: Id
    account_id: Id
    state: State
    asked_at: Time
    closed_at: Time
    done_at: Time | None
    parts: list[PartOut]


def _certified(found: Certificate) -> CertificateOut:
    parts = [PartOut.model_validate({"service": name, **part}) for name, part in sorted(found.parts.items())]
    return CertificateOut(
        id=found.id,
        account_id=found.account_id,
        state=found.state,
        asked_at=found.asked_at,
        closed_at=found.closed_at,
        done_at=found.done_at,
        parts=parts,
    )


@router.get("/setup/deleted-accounts")
async def list_certificates(
    db: Db, caller: Called, operator: Operator, limit: Limit = 50, cursor: Cursor = None
) -> Page[CertificateOut]:
    """The accounts that were deleted, or are at this moment, the newest first; with the setup token."""
    check_token(caller, operator)
    async with db.begin() as tx:
        rows = await store.certificates(tx, before=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.id,), _certified)


@router.get("/setup/deleted-accounts/{account_id}")
async def get_certificate(account_id: UUID, db: Db, caller: Called, operator: Operator) -> CertificateOut:
    """The certificate of one account; with the setup token."""
    check_token(caller, operator)
    async with db.begin() as tx:
        found = await store.certificate(tx, str(account_id))
    if found is None:
        raise problems.not_found("account")
    return _certified(found)
