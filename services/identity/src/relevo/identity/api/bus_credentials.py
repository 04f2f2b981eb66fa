"""Credentials of adapters and of metrics consumers."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, Time
from relevo.contracts.permissions import Permission
from relevo.identity import administration, bus_credentials, problems
from relevo.identity.api.common import Body, Called, Caller, Name, after
from relevo.identity.bus_access import BusUnavailable
from relevo.identity.store import keys as store

router = APIRouter(tags=["bus-credentials"])
Manager = Annotated[Principal, Depends(require(Permission.KEYS_MANAGE))]


class NewAdapterCredential(Body):
    inbox_id: UUID
    name: Name


class NewMetricsCredential(Body):
    name: Name


class CredentialOut(BaseModel):
    """A credential, without its secrets. Its ``id`` is the name of its consumer on the bus."""

    id: Id
    name: str
    inbox_id: Id | None = Field(description="Of adapters and bots.")
    created_at: Time

    @classmethod
    def of(cls, credential: store.BusCredential) -> "CredentialOut":
        return cls(
            id=credential.id,
            name=credential.name,
            inbox_id=credential.inbox_id,
            created_at=credential.created_at,
        )


class IssuedMetricsCredential(BaseModel):
    """Shown this once: ``credentials`` is the text of a NATS .creds file."""

    id: Id
    credentials: str


class IssuedAdapterCredential(IssuedMetricsCredential):
    """``key`` is for the HTTP door, ``credentials`` for NATS: either serves."""

    key: str

    @classmethod
    def of(cls, issued: bus_credentials.Issued) -> Self:
        assert issued.key is not None
        return cls(id=issued.id, key=issued.key, credentials=issued.credentials)


@router.get("/adapter-credentials")
async def list_adapter_credentials(
    who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[CredentialOut]:
    """The credentials in force."""
    return await list_credentials(db, who, "adapter", limit, cursor)


@router.post("/adapter-credentials", status_code=201)
async def issue_adapter_credential(
    body: NewAdapterCredential, who: Manager, db: Db, caller: Called
) -> IssuedAdapterCredential:
    """Issue an adapter's credentials for one inbox: it may publish what came in, and take what goes out, there only."""
    return IssuedAdapterCredential.of(await issue_for_inbox(db, who, caller, "adapter", body))


@router.delete("/adapter-credentials/{credential_id}", status_code=204)
async def revoke_adapter_credential(credential_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Revoke: its connections end, its key is refused. 503 when the bus is away; it is told as soon as it is back."""
    await revoke_credential(db, who, caller, "adapter", str(credential_id))


@router.get("/metrics-credentials")
async def list_metrics_credentials(
    who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[CredentialOut]:
    """The credentials in force."""
    return await list_credentials(db, who, "metrics", limit, cursor)


@router.post("/metrics-credentials", status_code=201)
async def issue_metrics_credential(
    body: NewMetricsCredential, who: Manager, db: Db, caller: Called
) -> IssuedMetricsCredential:
    """Issue a metrics consumer's credentials: it may read the account's metrics, and nothing else."""
    async with caller.act(db, who) as act:
        administration.check_metrics(act)
    issued = await bus_credentials.issue_metrics(
        db, caller.bus, caller.by(who), account=who.account_id, name=body.name, created_by=who.viewer.agent_id
    )
    return IssuedMetricsCredential(id=issued.id, credentials=issued.credentials)


@router.delete("/metrics-credentials/{credential_id}", status_code=204)
async def revoke_metrics_credential(credential_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Revoke: its connections end. 503 when the bus is away; it is told as soon as it is back."""
    await revoke_credential(db, who, caller, "metrics", str(credential_id))


async def list_credentials(
    db: Database, who: Principal, kind: store.Kind, limit: int, cursor: str | None
) -> Page[CredentialOut]:
    """Those of a kind that are in force."""
    async with db.begin() as tx:
        rows = await store.credentials(tx, who.account_id, kind, after=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.id,), CredentialOut.of)


async def issue_for_inbox(
    db: Database, who: Principal, caller: Caller, kind: store.InboxKind, body: NewAdapterCredential
) -> bus_credentials.Issued:
    """Issue an adapter's or a bot's. Raises Problem 403, 422 for an unknown inbox, and 503 when the bus is away."""
    inbox = str(body.inbox_id)
    async with caller.act(db, who) as act:
        administration.check_inbox_credential(act, kind, inbox)
    return await bus_credentials.issue_for_inbox(
        db,
        caller.bus,
        caller.by(who),
        kind,
        account=who.account_id,
        inbox=inbox,
        name=body.name,
        created_by=who.viewer.agent_id,
    )


async def revoke_credential(db: Database, who: Principal, caller: Caller, kind: store.Kind, credential: str) -> None:
    """Revoke one. Raises Problem 404, and 503 when the bus is away."""
    async with caller.act(db, who) as act:
        found = await store.lock_credential(act.tx, act.account, kind, credential)
        if found is None or (found.state == "revoked" and found.settled):
            raise problems.not_found("credential")
        if found.state != "revoked":
            changes, records = await administration.revoke_credentials(act.tx, act.account, [found])
            await act.done(changes, records)
    try:
        await bus_credentials.settle(db, caller.bus)
    except BusUnavailable:
        raise problems.revocation_under_way() from None
