"""API keys."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from relevo.chassis import paging
from relevo.chassis.auth import Principal, new_key, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.identity import KeyState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.identity import administration
from relevo.identity.api.common import Body, Called, Name, after
from relevo.identity.store import keys as store
from relevo.identity.store.keys import ApiKey

router = APIRouter(tags=["api-keys"])
Manager = Annotated[Principal, Depends(require(Permission.KEYS_MANAGE))]


class KeyOut(BaseModel):
    """An API key, without the key itself. ``agent_id``: whose it is; it ends with them and never holds more."""

    id: Id
    name: str
    permissions: list[Permission]
    scope: ConversationScope
    agent_id: Id | None
    expires_at: Time | None
    created_at: Time

    @classmethod
    def of(cls, key: ApiKey) -> "KeyOut":
        state = key.state
        return cls(
            id=state.id,
            name=state.name,
            permissions=sorted(state.permissions),
            scope=state.scope,
            agent_id=state.agent_id,
            expires_at=state.expires_at,
            created_at=key.created_at,
        )


class IssuedKey(KeyOut):
    """``key`` is shown this once."""

    key: str


class NewKeyIn(Body):
    """Permissions and scope within one's own; without ``expires_at`` it is good until revoked."""

    name: Name
    permissions: frozenset[Permission]
    scope: ConversationScope = ConversationScope.NONE
    expires_at: Time | None = None


@router.get("/api-keys")
async def list_api_keys(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[KeyOut]:
    """The account's API keys, in the order in which they were made."""
    async with db.begin() as tx:
        rows = await store.api_keys(tx, who.account_id, after=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.state.id,), KeyOut.of)


@router.post("/api-keys", status_code=201)
async def create_api_key(body: NewKeyIn, who: Manager, db: Db, caller: Called) -> IssuedKey:
    """Issue a key. (No Idempotency-Key here: the answer holds a secret, which is stored nowhere.)"""
    moment = now()
    if body.expires_at is not None and body.expires_at <= moment:
        es, en = "Debe estar en el futuro.", "Must be in the future."
        raise Problem(422, "expired_already", es=es, en=en, errors=(FieldError("/expires_at", es=es, en=en),))
    secret = new_key("api")
    async with caller.act(db, who) as act:
        state = KeyState(
            id=secret.id,
            account_id=act.account,
            kind="api",
            name=body.name,
            sha256=secret.sha256,
            permissions=body.permissions,
            scope=body.scope,
            agent_id=act.agent_id,
            expires_at=body.expires_at,
        )
        await administration.add_api_key(act, state)
    return IssuedKey(**KeyOut.of(ApiKey(state, 1, moment)).model_dump(), key=secret.plain)


@router.delete("/api-keys/{key_id}", status_code=204)
async def revoke_api_key(key_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Revoke a key, at once."""
    async with caller.act(db, who) as act:
        await administration.remove_api_key(act, str(key_id))
