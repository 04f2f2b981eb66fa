"""HTTP: what an inbox answers out of hours."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from relevo.automation import inbox_answers_api
from relevo.automation.domain.out_of_hours import DEFAULT_TEXTS, Setting
from relevo.automation.inbox_answers_api import AnswerText, Manager
from relevo.chassis.editing import IfMatch, tag
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page

router = APIRouter(prefix="/out-of-hours", tags=["out of hours"])


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


@router.get("")
async def list_out_of_hours(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[AnswerOut]:
    """What each inbox answers out of hours, also those that answer nothing."""
    return await inbox_answers_api.page(db, Setting, who, _out, limit=limit, cursor=cursor)


@router.get("/{inbox_id}")
async def get_out_of_hours(inbox_id: UUID, who: Manager, db: Db, response: Response) -> AnswerOut:
    """What an inbox answers out of hours."""
    async with db.begin() as tx:
        setting = await inbox_answers_api.read(tx, Setting, who.account_id, inbox_id)
    tag(response, setting.version)
    return _out(setting)


@router.put("/{inbox_id}")
async def set_out_of_hours(
    *, inbox_id: UUID, body: NewAnswer, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> AnswerOut:
    """Say what an inbox answers to whoever writes out of hours: once in a conversation, until it opens again."""
    setting = await inbox_answers_api.write(db, Setting, who, inbox_id, body, out=_out, if_match=if_match)
    tag(response, setting.version)
    return _out(setting)


def _out(setting: Setting) -> AnswerOut:
    return AnswerOut.model_validate(setting, from_attributes=True)
