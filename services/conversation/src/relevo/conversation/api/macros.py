"""Macros: named acts, personal or shared; running one is a bulk job with the act `macro`."""

import json
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints, model_validator

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem, invalid_fields
from relevo.contracts.base import Time, new_id
from relevo.contracts.permissions import Permission
from relevo.conversation.api.common import Body, Reader
from relevo.conversation.domain.macros import ACTS, Give, MacroAct, MacroActs, Say
from relevo.conversation.store import macros as store
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean_json

router = APIRouter(tags=["macros"])

MAX_MACROS: Final = 500
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Said(Body):
    """What its acts write is stored as one JSON value, whose texts no other model cleans."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, value: Any) -> Any:
        return clean_json(value)


class NewMacro(_Said):
    """Acts under a name, done in their order."""

    name: Name
    shared: bool = Field(default=False, description="Everybody sees it; needs the permission `macros.manage`.")
    acts: MacroActs


class MacroEdit(_Said):
    """What to change; what is left out stays."""

    name: Name | None = None
    shared: bool | None = None
    acts: MacroActs | None = None


class Macro(BaseModel):
    """A macro. Its ETag is `"VERSION"`. Run it by `POST /conversations/bulk` with the act `{"do": "macro", "macro_id"}`."""

    id: str
    name: str
    shared: bool
    agent_id: str | None = Field(description="Who made it.")
    acts: list[MacroAct]
    version: int
    created_at: Time
    updated_at: Time


class Macros(BaseModel):
    """One's own macros and the shared ones, by name."""

    items: list[Macro]


@router.get("/macros")
async def list_macros(who: Reader, db: Db) -> Macros:
    """One's own macros and the shared ones, by name; a few hundred at most."""
    async with db.begin() as tx:
        return Macros(items=[_shown(row) for row in await store.listed(tx, who.account_id, who.viewer.agent_id)])


@router.post("/macros", status_code=201)
async def create_macro(*, who: Reader, db: Db, once: Idempotency, response: Response, body: NewMacro) -> Macro:
    """Keep a macro. Who runs it needs the permissions of its acts; who makes it does not."""
    await _may_write(who, shared=body.shared)
    async with db.begin() as tx:
        await once.start(tx)
        await _check(tx, who, body.acts)
        if await store.lock_and_count(tx, who.account_id) >= MAX_MACROS:
            raise Problem(
                409,
                "too_many_macros",
                es=f"Ya hay {MAX_MACROS} macros: borra alguna.",
                en=f"There are {MAX_MACROS} macros already: delete one.",
            )
        row = {
            "id": new_id(),
            "agent_id": who.viewer.agent_id,
            "name": body.name,
            "shared": body.shared,
            "acts": _dumped(body.acts),
            "version": 1,
        }
        macro = _shown(await store.save(tx, who.account_id, row))
        tag(response, 1)
        return await once.finish(tx, macro)


@router.patch("/macros/{macro_id}")
async def edit_macro(
    *, who: Reader, db: Db, response: Response, macro_id: UUID, body: MacroEdit, if_match: IfMatch = None
) -> Macro:
    """Change a macro: one's own, or with `macros.manage` a shared one. What runs already goes on as it began."""
    async with db.begin() as tx:
        row = await _present(tx, who, macro_id, if_match)
        if body.shared:
            await _may_write(who, shared=True)
        if body.acts is not None:
            await _check(tx, who, body.acts)
        changed = {
            **row,
            "name": body.name or row["name"],
            "shared": row["shared"] if body.shared is None else body.shared,
            "acts": json.dumps(row["acts"]) if body.acts is None else _dumped(body.acts),
            "version": row["version"] + 1,
        }
        row = await store.save(tx, who.account_id, changed)
        tag(response, row["version"])
        return _shown(row)


@router.delete("/macros/{macro_id}", status_code=204)
async def delete_macro(*, who: Reader, db: Db, macro_id: UUID, if_match: IfMatch = None) -> None:
    """Delete a macro: one's own, or with `macros.manage` a shared one."""
    async with db.begin() as tx:
        await _present(tx, who, macro_id, if_match)
        await store.delete(tx, who.account_id, str(macro_id))


async def _may_write(who: Principal, *, shared: bool) -> None:
    if shared:
        await require(Permission.MACROS_MANAGE)(who)


async def _present(tx: Tx, who: Principal, macro_id: UUID, if_match: str | None) -> Row:
    row = await store.read(tx, who.account_id, who.viewer.agent_id, str(macro_id))
    if row is None:
        raise Problem(404, "macro_not_found", es="No existe esa macro.", en="There is no such macro.")
    await _may_write(who, shared=row["shared"])
    check_match(if_match, row["version"], _shown(row))
    return row


async def _check(tx: Tx, who: Principal, acts: list[MacroAct]) -> None:
    """Refuse agents and teams that the account does not have."""
    named: list[tuple[str, str, str]] = []
    for at, act in enumerate(acts):
        if isinstance(act, Give) and act.id:
            named.append((f"/acts/{at}/id", act.to, act.id))
        elif isinstance(act, Say):
            for n, one in enumerate(act.mentions):
                kind, _, id_ = one.partition(":")
                named.append((f"/acts/{at}/mentions/{n}", kind, id_))
    if not named:
        return
    known = {
        "agent": {agent.id for agent in await directory.agents(tx, who.account_id)},
        "team": {team.id for team in await directory.teams(tx, who.account_id)},
    }
    words = {
        "agent": ("No existe ese agente.", "There is no such agent."),
        "team": ("No existe ese equipo.", "There is no such team."),
    }
    errors = [
        FieldError(pointer, es=words[kind][0], en=words[kind][1])
        for pointer, kind, id_ in named
        if id_ not in known[kind]
    ]
    if errors:
        raise invalid_fields(errors)


def _dumped(acts: list[MacroAct]) -> str:
    return json.dumps(ACTS.dump_python(acts, mode="json"))


def _shown(row: Row) -> Macro:
    return Macro.model_validate(dict(row))
