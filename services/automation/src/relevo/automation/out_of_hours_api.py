"""HTTP: what an inbox answers out of hours."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from relevo.automation import out_of_hours_store as store
from relevo.automation.domain.out_of_hours import DEFAULT_TEXTS, VARIABLES, Setting
from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission
from relevo.kernel.text import clean
from relevo.kernel.variables import unknown

router = APIRouter(prefix="/out-of-hours", tags=["out of hours"])

Manager = Annotated[Principal, Depends(require(Permission.AUTOMATIONS_MANAGE))]
AnswerText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=5_000)]


class NewAnswer(BaseModel):
    """Texts may name {{next_opening}} (today at 15:00, on Monday 23 November at 09:00) and {{contact.name}}; an empty one is the standard text."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool
    text_es: AnswerText = ""
    text_en: AnswerText = ""


class AnswerOut(BaseModel):
    """What an inbox answers out of hours. ``default_es`` and ``default_en`` are said where its own texts are empty."""

    inbox_id: str
    enabled: bool
    text_es: str
    text_en: str
    version: int = Field(description="0: nobody has said anything yet.")
    default_es: str = DEFAULT_TEXTS["es"]
    default_en: str = DEFAULT_TEXTS["en"]

    @classmethod
    def of(cls, setting: Setting) -> "AnswerOut":
        return cls(
            inbox_id=setting.inbox_id,
            enabled=setting.enabled,
            text_es=setting.text_es,
            text_en=setting.text_en,
            version=setting.version,
        )


@router.get("")
async def list_out_of_hours(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[AnswerOut]:
    """What each inbox answers out of hours, also those that answer nothing."""
    after = paging.decode(cursor, str)[0] if cursor else ""
    async with db.begin() as tx:
        inboxes = sorted(inbox.id for inbox in await directory.account_inboxes(tx, who.account_id))
        shown = [inbox_id for inbox_id in inboxes if inbox_id > after][: limit + 1]
        found = await store.read(tx, who.account_id, shown)
    settings = [found.get(inbox_id) or Setting(who.account_id, inbox_id) for inbox_id in shown]
    return paging.page(settings, limit, lambda one: (one.inbox_id,), AnswerOut.of)


@router.get("/{inbox_id}")
async def get_out_of_hours(inbox_id: UUID, who: Manager, db: Db, response: Response) -> AnswerOut:
    """What an inbox answers out of hours."""
    async with db.begin() as tx:
        setting = await _setting(tx, who.account_id, str(inbox_id))
    tag(response, setting.version)
    return AnswerOut.of(setting)


@router.put("/{inbox_id}")
async def set_out_of_hours(
    *, inbox_id: UUID, body: NewAnswer, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> AnswerOut:
    """Say what an inbox answers to whoever writes out of hours: once in a conversation, until it opens again."""
    given = {"text_es": clean(body.text_es), "text_en": clean(body.text_en)}
    check_texts(given, VARIABLES)
    async with db.begin() as tx:
        await store.lock(tx, str(inbox_id))
        before = await _setting(tx, who.account_id, str(inbox_id))
        check_match(if_match, before.version, AnswerOut.of(before))
        setting = replace(before, enabled=body.enabled, version=before.version + 1, **given)
        await store.save(tx, setting, at=now(), by=who.actor)
    tag(response, setting.version)
    return AnswerOut.of(setting)


async def _setting(tx: Tx, account_id: str, inbox_id: str) -> Setting:
    if inbox_id not in {inbox.id for inbox in await directory.account_inboxes(tx, account_id)}:
        raise Problem(404, "inbox_not_found", es="No existe esa bandeja de entrada.", en="There is no such inbox.")
    return (await store.read(tx, account_id, [inbox_id])).get(inbox_id) or Setting(account_id, inbox_id)


def check_texts(texts: Mapping[str, str], variables: Collection[str]) -> None:
    """Refuse texts, by field, that name what there is not. Raises Problem 422."""
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
        raise Problem(
            422, "validation_failed", es="Hay campos que corregir.", en="Some fields must be mended.", errors=errors
        )
