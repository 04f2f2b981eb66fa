"""HTTP: what an inbox answers while nobody of its team is there."""

from dataclasses import replace
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from relevo.automation import offline_store as store
from relevo.automation.domain.offline import DEFAULT_TEXTS, VARIABLES, Setting
from relevo.automation.out_of_hours_api import AnswerText, Manager, check_texts
from relevo.chassis import directory, paging
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.base import now
from relevo.kernel.text import clean

router = APIRouter(prefix="/offline-answers", tags=["offline answers"])


class NewOfflineAnswer(BaseModel):
    """Texts may name {{back}} (today at 15:00, on Monday 23 November at 09:00) and {{contact.name}}; an empty one is the standard text."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool
    holder: bool = Field(
        default=False, description="Also when only the agent who has the conversation is not there, though others are."
    )
    text_es: AnswerText = ""
    text_en: AnswerText = ""


class OfflineAnswerOut(BaseModel):
    """What an inbox answers while nobody is there. ``default_es`` and ``default_en`` are said where its own texts are empty."""

    inbox_id: str
    enabled: bool
    holder: bool
    text_es: str
    text_en: str
    version: int = Field(description="0: nobody has said anything yet.")
    default_es: str = DEFAULT_TEXTS["es"]
    default_en: str = DEFAULT_TEXTS["en"]

    @classmethod
    def of(cls, setting: Setting) -> "OfflineAnswerOut":
        return cls(
            inbox_id=setting.inbox_id,
            enabled=setting.enabled,
            holder=setting.holder,
            text_es=setting.text_es,
            text_en=setting.text_en,
            version=setting.version,
        )


@router.get("")
async def list_offline_answers(
    who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[OfflineAnswerOut]:
    """What each inbox answers while nobody is there, also those that answer nothing."""
    after = paging.decode(cursor, str)[0] if cursor else ""
    async with db.begin() as tx:
        inboxes = sorted(inbox.id for inbox in await directory.account_inboxes(tx, who.account_id))
        shown = [inbox_id for inbox_id in inboxes if inbox_id > after][: limit + 1]
        found = await store.read(tx, who.account_id, shown)
    settings = [found.get(inbox_id) or Setting(who.account_id, inbox_id) for inbox_id in shown]
    return paging.page(settings, limit, lambda one: (one.inbox_id,), OfflineAnswerOut.of)


@router.get("/{inbox_id}")
async def get_offline_answer(inbox_id: UUID, who: Manager, db: Db, response: Response) -> OfflineAnswerOut:
    """What an inbox answers while nobody is there."""
    async with db.begin() as tx:
        setting = await _setting(tx, who.account_id, str(inbox_id))
    tag(response, setting.version)
    return OfflineAnswerOut.of(setting)


@router.put("/{inbox_id}")
async def set_offline_answer(
    *, inbox_id: UUID, body: NewOfflineAnswer, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> OfflineAnswerOut:
    """Say what an inbox answers while nobody of its team is there: once in a conversation, until somebody was.

    Nobody is there when all who could answer are away, offline or off shift. Where the inbox has an answer out of
    hours, that one alone is given then.
    """
    given = {"text_es": clean(body.text_es), "text_en": clean(body.text_en)}
    check_texts(given, VARIABLES)
    async with db.begin() as tx:
        await store.lock(tx, str(inbox_id))
        before = await _setting(tx, who.account_id, str(inbox_id))
        check_match(if_match, before.version, OfflineAnswerOut.of(before))
        setting = replace(before, enabled=body.enabled, holder=body.holder, version=before.version + 1, **given)
        await store.save(tx, setting, at=now(), by=who.actor)
    tag(response, setting.version)
    return OfflineAnswerOut.of(setting)


async def _setting(tx: Tx, account_id: str, inbox_id: str) -> Setting:
    if inbox_id not in {inbox.id for inbox in await directory.account_inboxes(tx, account_id)}:
        raise Problem(404, "inbox_not_found", es="No existe esa bandeja de entrada.", en="There is no such inbox.")
    return (await store.read(tx, account_id, [inbox_id])).get(inbox_id) or Setting(account_id, inbox_id)
