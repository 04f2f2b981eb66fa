"""HTTP: what an inbox answers while nobody of its team is there."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from relevo.automation import inbox_answers_api
from relevo.automation.domain.offline import DEFAULT_TEXTS, Setting
from relevo.automation.inbox_answers_api import AnswerText, Manager
from relevo.chassis.editing import IfMatch, tag
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page

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


@router.get("")
async def list_offline_answers(
    who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[OfflineAnswerOut]:
    """What each inbox answers while nobody is there, also those that answer nothing."""
    return await inbox_answers_api.page(db, Setting, who, _out, limit=limit, cursor=cursor)


@router.get("/{inbox_id}")
async def get_offline_answer(inbox_id: UUID, who: Manager, db: Db, response: Response) -> OfflineAnswerOut:
    """What an inbox answers while nobody is there."""
    async with db.begin() as tx:
        setting = await inbox_answers_api.read(tx, Setting, who.account_id, inbox_id)
    tag(response, setting.version)
    return _out(setting)


@router.put("/{inbox_id}")
async def set_offline_answer(
    *, inbox_id: UUID, body: NewOfflineAnswer, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> OfflineAnswerOut:
    """Say what an inbox answers while nobody of its team is there: once in a conversation, until somebody was.

    Nobody is there when all who could answer are away, offline or off shift. Where the inbox has an answer out of
    hours, that one alone is given then.
    """
    setting = await inbox_answers_api.write(db, Setting, who, inbox_id, body, out=_out, if_match=if_match)
    tag(response, setting.version)
    return _out(setting)


def _out(setting: Setting) -> OfflineAnswerOut:
    return OfflineAnswerOut.model_validate(setting, from_attributes=True)
