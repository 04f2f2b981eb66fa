"""Custom attributes: what an account's contacts and conversations may have beyond what everybody's have."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.conversation.api.common import Body
from relevo.conversation.domain.attributes import MAX_DEFINITIONS, MAX_OPTIONS, Entity, Kind
from relevo.conversation.store import attributes as store
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean, fold

router = APIRouter(tags=["attributes"])

AttributeReader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ, Permission.CONVERSATIONS_READ))]
AttributeManager = Annotated[Principal, Depends(require(Permission.ATTRIBUTES_MANAGE))]

_TEXT: Final = "empty_text"


def _line(value: str) -> str:
    text = " ".join(clean(value).split())
    if not text:
        raise PydanticCustomError(_TEXT, "{en}", {"es": "No puede estar vacío.", "en": "It cannot be empty."})
    return text


def _distinct(options: list[str]) -> list[str]:
    if len({fold(option, fold_n=True) for option in options}) != len(options):
        es, en = "Hay dos opciones iguales: quita una.", "Two options are the same: take one away."
        raise PydanticCustomError("same_options", "{en}", {"es": es, "en": en})
    return options


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_line)]
Options = Annotated[list[Line], Field(max_length=MAX_OPTIONS), AfterValidator(_distinct)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
AttributeKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]


class NewAttribute(Body):
    """A custom attribute. `key` names it in data and never changes, no more than `kind`."""

    key: AttributeKey
    name: Line
    kind: Kind
    description: Annotated[str, StringConstraints(max_length=1000)] = ""
    options: Options = Field(default=[], description="Of a list: what may be chosen, one of them.")
    currency: Currency | None = Field(default=None, description="Of a currency: ISO 4217, three letters.")

    @model_validator(mode="after")
    def _complete(self) -> "NewAttribute":
        if (self.kind == "list") != bool(self.options):
            es = "Una lista necesita «options», y solo una lista las tiene."
            raise PydanticCustomError("options", "{en}", {"es": es, "en": "A list needs `options`, nothing else does."})
        if (self.kind == "currency") != bool(self.currency):
            es, en = (
                "Un importe necesita «currency», como EUR, y nada más lo tiene.",
                "A currency needs `currency`, such as EUR, nothing else does.",
            )
            raise PydanticCustomError("currency", "{en}", {"es": es, "en": en})
        return self


class NewAttributeOf(NewAttribute):
    """A custom attribute of contacts or of conversations."""

    entity: Entity = "contact"


class AttributeEdit(Body):
    """What to change of an attribute; what is left out stays. Values that use an option taken away keep it."""

    name: Line | None = None
    description: Annotated[str, StringConstraints(max_length=1000)] | None = None
    options: Annotated[Options, Field(min_length=1)] | None = None


class AttributeOut(BaseModel):
    """A custom attribute. Its ETag is `"VERSION"`."""

    id: str
    entity: Entity
    key: str
    name: str
    kind: Kind
    description: str
    options: list[str]
    currency: str | None
    created_at: Time
    version: int


class AttributeList(BaseModel):
    """All of them."""

    items: list[AttributeOut]


@router.get("/attributes")
async def list_attributes(who: AttributeReader, db: Db, entity: Entity | None = None) -> AttributeList:
    """The custom attributes of the account, by key; at most 100 of contacts and 100 of conversations."""
    async with db.begin() as tx:
        return AttributeList(items=[_out(row) for row in await store.listed(tx, who.account_id, entity)])


@router.post("/attributes", status_code=201)
async def create_attribute(
    *, who: AttributeManager, db: Db, once: Idempotency, response: Response, body: NewAttributeOf
) -> AttributeOut:
    """Define a custom attribute. The key of a deleted one may be used again, with the same kind."""
    async with db.begin() as tx:
        await once.start(tx)
        (row,) = await define(tx, who.account_id, body.entity, [body])
        tag(response, row["version"])
        return await once.finish(tx, _out(row))


@router.patch("/attributes/{attribute_id}")
async def edit_attribute(
    *,
    who: AttributeManager,
    db: Db,
    response: Response,
    attribute_id: UUID,
    body: AttributeEdit,
    if_match: IfMatch = None,
) -> AttributeOut:
    """Change an attribute's name, description or options."""
    async with db.begin() as tx:
        row = await _present(tx, who, attribute_id, if_match)
        given = {name: value for name, value in body.model_dump().items() if value is not None}
        if "options" in given and row["kind"] != "list":
            raise Problem(
                422,
                "attribute_is_no_list",
                es="Solo una lista tiene opciones.",
                en="Only a list has options.",
                errors=(FieldError("/options", es="Quítalas.", en="Leave them out."),),
            )
        if any(row[name] != value for name, value in given.items()):
            row = await store.save(tx, who.account_id, {**row, **given, "version": row["version"] + 1})
        tag(response, row["version"])
        return _out(row)


@router.delete("/attributes/{attribute_id}", status_code=204)
async def delete_attribute(*, who: AttributeManager, db: Db, attribute_id: UUID, if_match: IfMatch = None) -> None:
    """Offer an attribute no more. Values that are there stay until they are taken away."""
    async with db.begin() as tx:
        row = await _present(tx, who, attribute_id, if_match)
        await store.save(tx, who.account_id, {**row, "version": row["version"] + 1, "deleted_at": now()})


async def define(tx: Tx, account_id: str, entity: Entity, wanted: Sequence[NewAttribute]) -> list[Row]:
    """Define attributes. Raises Problem 409 for a key that is taken, or was of another kind, and above the limit."""
    await store.lock(tx, account_id)
    present = await store.definitions(tx, account_id, entity)
    if len(present) + len(wanted) > MAX_DEFINITIONS:
        raise Problem(
            409,
            "too_many_attributes",
            es=f"Hay como mucho {MAX_DEFINITIONS} atributos: borra alguno que no uses.",
            en=f"There are at most {MAX_DEFINITIONS} attributes: delete one that you do not use.",
        )
    known = await store.by_key(tx, account_id, entity, [one.key for one in wanted])
    made = []
    for one in wanted:
        before = known.get(one.key)
        if before is not None and (before["deleted_at"] is None or before["kind"] != one.kind):
            es, en = (
                ("Ya hay un atributo con esa clave.", "There is an attribute with that key already.")
                if before["deleted_at"] is None
                else (
                    f"Con esa clave hubo un atributo de tipo {before['kind']} y quedan valores: usa otra clave o ese tipo.",
                    f"An attribute of the kind {before['kind']} had that key, and values are left: use another key, or that kind.",
                )
            )
            raise Problem(409, "attribute_exists", es=es, en=en, errors=(FieldError("/key", es=es, en=en),))
        version = before["version"] + 1 if before else 1
        row: Mapping[str, Any] = {
            **one.model_dump(include={"key", "name", "kind", "description", "options", "currency"}),
            "id": before["id"] if before else new_id(),
            "entity": entity,
            "version": version,
            "deleted_at": None,
        }
        made.append(await store.save(tx, account_id, row))
    return made


async def _present(tx: Tx, who: Principal, attribute_id: UUID, if_match: str | None) -> Row:
    row = await store.read(tx, who.account_id, str(attribute_id))
    if row is None:
        raise Problem(404, "attribute_not_found", es="No existe ese atributo.", en="There is no such attribute.")
    check_match(if_match, row["version"], _out(row))
    return row


def _out(row: Row) -> AttributeOut:
    return AttributeOut.model_validate(dict(row))
