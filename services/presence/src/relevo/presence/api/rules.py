"""HTTP: named statuses, and the rules by which a status changes by itself."""

from typing import Annotated, Any
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RoutingState, RulesChanged
from relevo.kernel.text import clean
from relevo.presence import changes
from relevo.presence.problems import name_taken, no_status
from relevo.presence.rules_json import RulesIn
from relevo.presence.settings import limits_of
from relevo.presence.store import rules as store

router = APIRouter(tags=["presence"])

MOST_STATUSES = 50

Reader = Annotated[Principal, Depends(require(Permission.PRESENCE_READ, Permission.PRESENCE_SELF))]
Manager = Annotated[Principal, Depends(require(Permission.PRESENCE_MANAGE))]


class NamedIn(BaseModel):
    """A named status: what people see, and the routing state that it stands for."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=60, strip_whitespace=True), AfterValidator(clean)]
    state: RoutingState
    colour: Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")] = "#64748b"
    icon: Annotated[str, StringConstraints(max_length=40, pattern=r"^[a-z0-9-]*$")] = ""
    longest_minutes: int | None = Field(
        default=None, ge=1, le=24 * 60, description="Who stays longer is shown as overdue; their status stays."
    )


class NamedOut(NamedIn):
    """A named status as it is kept."""

    id: Id
    version: int


class NamedStatuses(BaseModel):
    """All of the account, by name."""

    items: list[NamedOut]


class RulesOut(RulesIn):
    """The account's rules; version 0: none were ever set."""

    version: int


@router.get("/presence/rules")
async def get_presence_rules(who: Reader, db: Db, response: Response) -> RulesOut:
    """When an agent's status changes by itself."""
    async with db.begin() as tx:
        rules, version = await store.read_rules(tx, who.account_id)
    tag(response, version)
    return RulesOut(**rules, version=version)


@router.put("/presence/rules")
async def set_presence_rules(
    *, body: RulesIn, who: Manager, db: Db, rt: Rt, response: Response, if_match: IfMatch = None
) -> RulesOut:
    """Set the account's rules; they count at once for everybody."""
    _consistent(body)
    async with db.begin() as tx:
        await store.lock(tx, who.account_id)
        before, version = await store.read_rules(tx, who.account_id)
        check_match(if_match, version, RulesOut(**before, version=version))
        if body.break_status_id is not None:
            present = {row["id"] for row in await store.named(tx, who.account_id)}
            if body.break_status_id not in present:
                raise _unknown_break()
        await store.save_rules(tx, who.account_id, body.model_dump(mode="json", exclude_unset=True), version + 1)
        told = RulesChanged(account_id=who.account_id, watches_load=body.watches_load)
        tx.emit(told, account=who.account_id, entity=who.account_id, actor=who.actor, sequence=version + 1)
        await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))
    tag(response, version + 1)
    return RulesOut(**body.model_dump(), version=version + 1)


@router.get("/presence/statuses")
async def list_named_statuses(who: Reader, db: Db) -> NamedStatuses:
    """The account's named statuses."""
    async with db.begin() as tx:
        return NamedStatuses(items=[_named(row) for row in await store.named(tx, who.account_id)])


@router.post("/presence/statuses", status_code=201)
async def create_named_status(body: NamedIn, who: Manager, db: Db, once: Idempotency, response: Response) -> NamedOut:
    """Make a named status."""
    try:
        async with db.begin() as tx:
            await once.start(tx)
            await store.lock(tx, who.account_id)
            if len(await store.named(tx, who.account_id)) >= MOST_STATUSES:
                raise Problem(
                    409,
                    "too_many",
                    es=f"Ya hay {MOST_STATUSES} estados: quita alguno antes.",
                    en=f"There are {MOST_STATUSES} statuses already: remove one first.",
                )
            row = await store.add_named(tx, who.account_id, new_id(), body.model_dump())
            tag(response, row["version"])
            return await once.finish(tx, _named(row))
    except psycopg.errors.UniqueViolation:
        raise name_taken(es="estado", en="status") from None


@router.put("/presence/statuses/{status_id}")
async def edit_named_status(
    *, status_id: UUID, body: NamedIn, who: Manager, db: Db, rt: Rt, response: Response, if_match: IfMatch = None
) -> NamedOut:
    """Write a named status anew. Who has it now stays in the routing state in which they chose it."""
    try:
        async with db.begin() as tx:
            await store.lock(tx, who.account_id)
            present = await _status(tx, who.account_id, str(status_id))
            check_match(if_match, present["version"], _named(present))
            row = await store.edit_named(tx, who.account_id, str(status_id), body.model_dump())
            if row is None:
                raise no_status()
            await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))
    except psycopg.errors.UniqueViolation:
        raise name_taken(es="estado", en="status") from None
    tag(response, row["version"])
    return _named(row)


@router.delete("/presence/statuses/{status_id}", status_code=204)
async def remove_named_status(status_id: UUID, who: Manager, db: Db, rt: Rt) -> None:
    """Take a named status away: nobody can choose it any more, a break by rule ends, and the history keeps naming it."""
    async with db.begin() as tx:
        if not await store.remove_named(tx, who.account_id, str(status_id)):
            raise no_status()
        await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))


async def _status(tx: Tx, account_id: str, status_id: str) -> Any:
    for row in await store.named(tx, account_id):
        if row["id"] == status_id:
            return row
    raise no_status()


def _unknown_break() -> Problem:
    return Problem(
        422,
        "status_not_found",
        es="No existe ese estado: elige uno de /presence/statuses.",
        en="There is no such status: choose one of /presence/statuses.",
        errors=[FieldError("/break_status_id", es="No existe.", en="Does not exist.")],
    )


def _consistent(body: RulesIn) -> None:
    errors = []
    if body.back_below is not None and body.busy_at is not None and body.back_below > body.busy_at:
        errors.append(FieldError("/back_below", es="No puede superar busy_at.", en="Cannot be greater than busy_at."))
    breaks = body.break_after_conversations is not None or body.break_after_minutes is not None
    if breaks and body.break_status_id is None:
        errors.append(
            FieldError(
                "/break_status_id",
                es="Un descanso necesita el estado que pone: indica uno de /presence/statuses.",
                en="A break needs the status that it sets: give one of /presence/statuses.",
            )
        )
    if errors:
        raise Problem(
            422, "rules_inconsistent", es="Las reglas no concuerdan.", en="The rules do not agree.", errors=errors
        )


def _named(row: Any) -> NamedOut:
    return NamedOut(**{name: row[name] for name in NamedOut.model_fields})
