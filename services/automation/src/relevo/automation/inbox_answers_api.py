"""HTTP: the steps that all answers of inboxes share. Their words, and what else they say, stand in a module of each kind."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Depends
from pydantic import BaseModel, StringConstraints

from relevo.automation import inbox_answers_store as store
from relevo.automation.inbox_answers_store import S
from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import check_match
from relevo.chassis.http import Db
from relevo.chassis.paging import Page
from relevo.chassis.problems import FieldError, Problem, invalid_fields
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission
from relevo.kernel.text import clean
from relevo.kernel.variables import unknown

Out = TypeVar("Out", bound=BaseModel)
Manager = Annotated[Principal, Depends(require(Permission.AUTOMATIONS_MANAGE))]
AnswerText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=5_000)]


async def page(
    db: Db, kind: type[S], who: Principal, out: Callable[[S], Out], *, limit: int, cursor: str | None
) -> Page[Out]:
    """What each inbox of an account answers, also those that never said."""
    after = paging.decode(cursor, str)[0] if cursor else ""
    async with db.begin() as tx:
        inboxes = sorted(inbox.id for inbox in await directory.account_inboxes(tx, who.account_id))
        shown = [inbox_id for inbox_id in inboxes if inbox_id > after][: limit + 1]
        found = await store.read(tx, kind, who.account_id, shown)
    settings = [found.get(inbox_id) or kind(who.account_id, inbox_id) for inbox_id in shown]
    return paging.page(settings, limit, lambda one: (one.inbox_id,), out)


async def read(tx: Tx, kind: type[S], account_id: str, inbox_id: UUID) -> S:
    """What an inbox answers. Raises Problem 404 where the account has no such inbox."""
    asked = str(inbox_id)
    if asked not in {inbox.id for inbox in await directory.account_inboxes(tx, account_id)}:
        raise Problem(404, "inbox_not_found", es="No existe esa bandeja de entrada.", en="There is no such inbox.")
    return (await store.read(tx, kind, account_id, [asked])).get(asked) or kind(account_id, asked)


async def write(
    db: Db,
    kind: type[S],
    who: Principal,
    inbox_id: UUID,
    body: BaseModel,
    *,
    out: Callable[[S], BaseModel],
    if_match: str | None,
) -> S:
    """Keep what an inbox answers from now on. Raises Problem 404, 412, 422 and 428."""
    given = body.model_dump()
    given |= (texts := {name: clean(given[name]) for name in ("text_es", "text_en")})
    _check(texts, kind.variables)
    async with db.begin() as tx:
        await store.lock(tx, kind, str(inbox_id))
        before = await read(tx, kind, who.account_id, inbox_id)
        check_match(if_match, before.version, out(before))
        after = replace(before, **given, version=before.version + 1)
        await store.save(tx, after, at=now(), by=who.actor)
    return after


def _check(texts: Mapping[str, str], variables: Collection[str]) -> None:
    """Refuse texts, by field, that name what there is not."""
    there = ", ".join(f"{{{{{name}}}}}" for name in variables)
    errors = tuple(
        FieldError(
            f"/{field}",
            es=f"La variable «{name}» no existe. Existen: {there}.",
            en=f"There is no variable {name!r}. There are: {there}.",
        )
        for field, text in texts.items()
        if (name := unknown(text, variables)) is not None
    )
    if errors:
        raise invalid_fields(errors)
