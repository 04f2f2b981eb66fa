"""The account's labels: made once, for conversations and contacts alike; renamed, merged, deleted."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id
from relevo.contracts.permissions import Permission
from relevo.conversation import labels, lists
from relevo.conversation.api.asked import Label
from relevo.conversation.api.common import Body, Remark, cursor_id
from relevo.conversation.filters import Filters
from relevo.conversation.store import labels as store
from relevo.conversation.store import segments
from relevo.conversation.store.rows import Row
from relevo.conversation.tables import contacts
from relevo.kernel.text import clean, fold

router = APIRouter(tags=["labels"])

Reader = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_READ, Permission.CONTACTS_READ))]
Manager = Annotated[Principal, Depends(require(Permission.LABELS_MANAGE))]

Color = Annotated[str, StringConstraints(pattern=r"^#[0-9A-Fa-f]{6}$"), AfterValidator(str.lower)]

MAX_LABELS_MADE: Final = 1000
"""How many an account may make by hand. Those that come by use (a rule, an import) are not held back by it."""


class NewLabel(Body):
    """A label to be made."""

    name: Label = Field(description="One of its kind in the account, whatever its accents and case.")
    color: Color = Field(default="#6b7280", description="As #RRGGBB.")
    description: Remark = ""
    sidebar: bool = Field(default=True, description="Whether it is shown in the sidebar.")


class LabelEdit(Body):
    """What to change; what is left out stays."""

    name: Label | None = None
    color: Color | None = None
    description: Remark | None = None
    sidebar: bool | None = None


class LabelMerge(Body):
    """Into which label."""

    into: UUID


class Uses(BaseModel):
    """How many have it, exact up to 1,000; with ``more`` there are more."""

    count: int
    more: bool = False


class LabelOut(BaseModel):
    """A label. ``key`` is what conversations, contacts, filters, rules and reports carry: it stays when ``name`` changes.

    ``state``: `merging` and `deleting` until all that has it is done, then it is `merged`, or there no more.
    ``conversations`` are those that one would find by it, not archived ones.
    """

    id: str
    key: str
    name: str
    color: str
    description: str
    sidebar: bool
    state: Literal["live", "merging", "merged", "deleting"]
    into_key: str | None = None
    conversations: Uses | None = Field(default=None, description="Null unless counts are asked for.")
    contacts: Uses | None = Field(default=None, description="Null unless counts are asked for, and one may read them.")
    version: int
    updated_by: str
    updated_at: Time


@router.get("/labels")
async def list_labels(
    *,
    who: Reader,
    db: Db,
    q: Annotated[str, Query(max_length=100, description="A part of the name; accents and case do not count.")] = "",
    counts: Annotated[bool, Query(description="Also how many conversations and contacts have each.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[LabelOut]:
    """The account's labels, by name: those that were made, and those that came to be by use."""
    place: tuple[str, str] | None = paging.decode(cursor, str, str) if cursor else None
    if place is not None:
        place = clean(place[0]), cursor_id(place[1])
    async with db.begin() as tx:
        rows = await store.page(tx, who.account_id, fold(clean(q)).strip(), limit, place)
        page = paging.page(rows, limit, lambda row: (row["folded"], row["id"]), _shown)
        if counts:
            for label in page.items:
                await _count(tx, who, label)
    return page


@router.post("/labels", status_code=201)
async def create_label(who: Manager, db: Db, once: Idempotency, response: Response, body: NewLabel) -> LabelOut:
    """Make a label. 409 with the other's id when there is one of that name already."""
    async with db.begin() as tx:
        await once.start(tx)
        held = await store.lock_and_count(tx, who.account_id)
        if held >= MAX_LABELS_MADE:
            raise Problem(
                409,
                "too_many_labels",
                es=f"Ya hay {MAX_LABELS_MADE} etiquetas: borra o combina alguna.",
                en=f"There are {MAX_LABELS_MADE} labels already: delete or merge some.",
            )
        given: dict[str, Any] = body.model_dump(exclude={"name"})
        before = await _free(tx, who, body.name)
        if before is not None:  # what was merged into another one is a label of its own again
            row = await store.write(tx, before, who.actor, name=body.name, state="live", into_key=None, **given)
        else:
            made = await store.add(tx, [(new_id(), who.account_id, body.name, who.actor)], **given)
            if not made:  # somebody has used it just now
                raise _exists(next(iter(await store.named(tx, who.account_id, body.name))))
            row = made[0]
        labels.told(tx, row, who.actor)
        tag(response, row["version"])
        return await once.finish(tx, _shown(row))


@router.get("/labels/{label_id}")
async def get_label(who: Reader, db: Db, response: Response, label_id: UUID) -> LabelOut:
    """One label, with its counts; also while it is merged or deleted, and after a merge."""
    async with db.begin() as tx:
        label = _shown(await _found(tx, who, label_id))
        await _count(tx, who, label)
    tag(response, label.version)
    return label


@router.patch("/labels/{label_id}")
async def edit_label(
    *, who: Manager, db: Db, response: Response, label_id: UUID, body: LabelEdit, if_match: IfMatch = None
) -> LabelOut:
    """Change a label. Another name is at once everywhere that has it: filters, views, segments, rules, reports."""
    async with db.begin() as tx:
        await store.lock_and_count(tx, who.account_id)
        row = await _live(tx, who, label_id, if_match)
        given = {name: value for name, value in body.model_dump().items() if value is not None}
        if "name" in given:
            await _free(tx, who, given["name"], but=row)
        if any(row[name] != value for name, value in given.items()):
            row = await store.write(tx, row, who.actor, **given)
            labels.told(tx, row, who.actor)
        tag(response, row["version"])
        return _shown(row)


@router.post("/labels/{label_id}/merge", status_code=202)
async def merge_label(
    *, who: Manager, db: Db, once: Idempotency, label_id: UUID, body: LabelMerge, if_match: IfMatch = None
) -> LabelOut:
    """Make a label part of another one: what has it has the other from then on, and its name stands for the other.

    Conversations and contacts follow in the background, each with its event; rules do not fire on it. A label that is
    merged away can be made anew.
    """
    async with db.begin() as tx:
        await once.start(tx)
        await store.lock_and_count(tx, who.account_id)
        row = await _live(tx, who, label_id, if_match)
        if body.into == label_id:
            raise _wrong_target("Elige otra etiqueta: esta es la misma.", "Choose another label: this is the same.")
        into = await store.read(tx, who.account_id, str(body.into))
        if into is None or into["state"] != "live":
            raise _wrong_target("No existe esa etiqueta.", "There is no such label.")
        return await once.finish(tx, _shown(await labels.merge(tx, row, into, who.actor)))


@router.delete("/labels/{label_id}", status_code=202)
async def delete_label(*, who: Manager, db: Db, label_id: UUID, if_match: IfMatch = None) -> LabelOut:
    """Delete a label: it is gone from the list at once, from conversations and contacts in the background, with events.

    What was counted by it in reports stays. A rule that puts it on makes it anew.
    """
    async with db.begin() as tx:
        await store.lock_and_count(tx, who.account_id)
        row = await _live(tx, who, label_id, if_match)
        if await store.is_taking(tx, row):
            raise _busy()
        return _shown(await labels.delete(tx, row, who.actor))


async def _free(tx: Tx, who: Principal, name: str, but: Row | None = None) -> Row | None:
    """Whether a name can be a label's; answers one that was merged away under it. Raises Problem 409."""
    others = [row for row in await store.named(tx, who.account_id, name) if but is None or row["id"] != but["id"]]
    for row in others:
        if row["state"] in {"merging", "deleting"} and row["key"] == name:
            raise _busy()
        if row["state"] == "live" and fold(row["name"]) == fold(name):
            raise _exists(row)
        if row["state"] == "live" and row["key"] == name:
            es = f"Ese es el nombre que tuvo «{row['name']}», y sigue significándola: elige otro."
            en = f"That is what “{row['name']}” was called, and it still means that label: choose another one."
            raise _taken("label_name_was_used", es, en, row)
    return next((row for row in others if row["key"] == name and row["state"] == "merged"), None)


async def _found(tx: Tx, who: Principal, label_id: UUID) -> Row:
    row = await store.read(tx, who.account_id, str(label_id))
    if row is None:
        raise Problem(404, "label_not_found", es="No existe esa etiqueta.", en="There is no such label.")
    return row


async def _live(tx: Tx, who: Principal, label_id: UUID, if_match: str | None) -> Row:
    row = await _found(tx, who, label_id)
    check_match(if_match, row["version"], _shown(row))
    if row["state"] != "live":
        raise _busy()
    return row


async def _count(tx: Tx, who: Principal, label: LabelOut) -> None:
    if who.can(Permission.CONVERSATIONS_READ):
        n = await lists.count(tx, who.viewer, Filters(labels=(label.key,)))
        label.conversations = Uses(count=min(n, lists.COUNT_LIMIT), more=n > lists.COUNT_LIMIT)
    if who.can(Permission.CONTACTS_READ):
        n = await segments.count(tx, who.account_id, [contacts.c.labels.contains([label.key])])
        label.contacts = Uses(count=min(n, segments.COUNT_LIMIT), more=n > segments.COUNT_LIMIT)


def _exists(row: Row) -> Problem:
    es = f"Ya hay una etiqueta «{row['name']}»: usa esa, o elige otro nombre."
    en = f"There is a label “{row['name']}” already: use that one, or choose another name."
    return _taken("label_exists", es, en, row)


def _taken(code: str, es: str, en: str, row: Row) -> Problem:
    return Problem(409, code, es=es, en=en, errors=(FieldError("/name", es=es, en=en),), extra={"label_id": row["id"]})


def _busy() -> Problem:
    return Problem(
        409,
        "label_is_changing",
        es="Esa etiqueta se está combinando o borrando, o ya se combinó: espera a que termine, o usa la otra.",
        en="That label is being merged or deleted, or was merged: wait until it is done, or use the other one.",
    )


def _wrong_target(es: str, en: str) -> Problem:
    return Problem(422, "invalid_label", es=es, en=en, errors=(FieldError("/into", es=es, en=en),))


def _shown(row: Row) -> LabelOut:
    return LabelOut.model_validate(dict(row))
