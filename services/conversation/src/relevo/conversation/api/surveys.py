"""How customers were served: the page on which they say so, and what the team reads of it."""

import time
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qs
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, BeforeValidator, Field

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db, Rt, body_limit
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import language_of
from relevo.contracts.base import now
from relevo.contracts.ingest import SurveyWay
from relevo.contracts.permissions import Permission
from relevo.conversation import answers, lists
from relevo.conversation.api.common import Reader, after, no_conversation
from relevo.conversation.changes import Changes
from relevo.conversation.domain import surveys
from relevo.conversation.domain.survey_page import POLICY, page
from relevo.conversation.domain.surveys import LONGEST_COMMENT, Language, Survey
from relevo.conversation.store import conversations
from relevo.conversation.store import surveys as store
from relevo.kernel.rate import Buckets
from relevo.kernel.text import clean

router = APIRouter(tags=["surveys"])

CommentReader = Annotated[Principal, Depends(require(Permission.SURVEYS_READ))]
# A link that was cut or changed on its way still leads to a page, not to a program's answer: what is not understood counts as not said.
Lang = Annotated[
    Literal["es", "en"] | None,
    BeforeValidator(lambda said: said if said in {"es", "en"} else None),
    Query(description="Without it: the language in which they were asked."),
]
Chosen = Annotated[
    Annotated[int, Field(ge=1, le=5)] | None,
    BeforeValidator(lambda said: said if said in {"1", "2", "3", "4", "5"} else None),
    Query(description="Chosen beforehand; nothing is saved by it."),
]
Done = Annotated[
    bool, BeforeValidator(lambda said: said in {"true", True}), Query(description="An answer has just been saved.")
]

_BUCKETS: Final = "survey_buckets"
_PAGE: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": what, "content": {"text/html": {}}}
    for status, what in (
        (404, "There is no such survey."),
        (410, "It was answered for good, or its time has passed."),
        (422, "What was sent is no answer; the page says why."),
        (429, "Too many requests in a row."),
    )
}


class SurveyShown(BaseModel):
    """What a customer was asked, and answered."""

    id: str
    conversation_id: str
    cycle: int
    way: SurveyWay
    agent_id: str | None = Field(description="Who is credited: who resolved the conversation, as it was then.")
    team_id: str | None
    sent_at: datetime
    rating: int | None
    comment: str | None = Field(description="Null without the permission `surveys.read`.")
    answered_at: datetime | None
    changed_at: datetime | None = Field(
        description="When it was answered last; an answer can be changed for some days."
    )


class Surveys(BaseModel):
    """The surveys of one conversation."""

    items: list[SurveyShown]


@router.get("/csat")
async def list_survey_answers(
    *,
    who: CommentReader,
    db: Db,
    rating: Annotated[int | None, Query(ge=1, le=5)] = None,
    agent_id: Annotated[UUID | None, Query(description="Who is credited.")] = None,
    inbox_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SurveyShown]:
    """What customers answered, with their comments, in conversations that one may see; the latest first."""
    wanted = answers.Wanted(rating, str(agent_id) if agent_id else None, str(inbox_id) if inbox_id else None)
    async with db.begin() as tx:
        rows = await answers.page(tx, who.viewer, wanted, limit, after(cursor))
    return paging.page(
        rows,
        limit,
        lambda row: (row["answered_at"].isoformat(), row["id"]),
        lambda row: _shown(store.survey_of(row), who),
    )


@router.get("/conversations/{conversation_id}/surveys")
async def list_conversation_surveys(who: Reader, db: Db, conversation_id: UUID) -> Surveys:
    """What the customer was asked in a conversation, once each time it was resolved at most, and what they answered."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        found = await store.of_conversation(tx, who.account_id, str(conversation_id))
    return Surveys(items=[_shown(one, who) for one in found])


def _shown(survey: Survey, who: Principal) -> SurveyShown:
    comment = survey.comment if who.can(Permission.SURVEYS_READ) else None
    return SurveyShown(
        **{name: getattr(survey, name) for name in SurveyShown.model_fields if name != "comment"}, comment=comment
    )


@router.get("/csat/{token}", response_class=HTMLResponse, responses=_PAGE)
async def open_survey(
    *,
    db: Db,
    runtime: Rt,
    request: Request,
    token: str,
    lang: Lang = None,
    rating: Chosen = None,
    done: Done = False,
) -> Response:
    """The page on which a customer answers. Looking at it saves nothing, since mail scanners open links too."""
    if busy := _busy(runtime, request, token, lang):
        return busy
    found = await _found(db, token)
    if found is None:
        return _answer(404, page("unknown", lang or language_of(request)))
    survey, company = found
    language = lang or survey.language
    standing = survey.standing(now())
    if standing in ("used", "expired"):
        if standing == "used" and done:
            # It cannot be changed at all: the thanks are what there is to say.
            return _answer(200, page("used", language, company=company))
        return _answer(410, page("used" if standing == "used" else "expired", language, company=company))
    shown: Literal["thanks", "form"] = "thanks" if done and survey.version else "form"
    return _answer(200, page(shown, language, company=company, survey=survey, rating=rating))


@router.post(
    "/csat/{token}",
    response_class=HTMLResponse,
    status_code=303,
    responses=_PAGE | {303: {"description": "Saved: on to the page that says so."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {
                        "type": "object",
                        "required": ["rating"],
                        "properties": {
                            "rating": {"type": "integer", "minimum": 1, "maximum": 5},
                            "comment": {"type": "string", "maxLength": LONGEST_COMMENT},
                        },
                    }
                }
            },
        }
    },
)
@body_limit(64 * 1024)
async def answer_survey(*, db: Db, runtime: Rt, request: Request, token: str, lang: Lang = None) -> Response:
    """Save the customer's answer, or another one in place of it while that can be done. The token is the credential."""
    if busy := _busy(runtime, request, token, lang):
        return busy
    sent = _form(await request.body())
    given, comment = sent.get("rating", [""])[-1], clean(sent.get("comment", [""])[-1]).replace("\r\n", "\n").strip()
    found = await _found(db, token)
    if found is None:
        return _answer(404, page("unknown", lang or language_of(request)))
    survey, company = found
    language = lang or survey.language
    rating = int(given) if given in {"1", "2", "3", "4", "5"} else None
    if (standing := survey.standing(now())) in ("used", "expired"):
        return _answer(410, page("used" if standing == "used" else "expired", language, company=company))
    if rating is None or len(comment) > LONGEST_COMMENT:
        fault: Literal["missing", "long"] = "missing" if rating is None else "long"
        told = page("form", language, company=company, survey=survey, rating=rating, comment=comment, fault=fault)
        return _answer(422, told)
    if not await _save(db, survey, rating, comment):
        return _answer(410, page("expired", language, company=company))
    # Relative to this address: whatever stands before it belongs to the edge.
    place = f"?done=true&lang={lang}" if lang else "?done=true"
    return RedirectResponse(place, status_code=303)


def _form(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:  # more fields than any form of ours has
        return {}


async def _save(db: Db, survey: Survey, rating: int, comment: str) -> bool:
    key = (survey.account_id, survey.conversation_id)
    async with db.begin(survey.account_id) as tx:
        held = await conversations.lock(tx, [key])
        latest = await store.lock(tx, survey.account_id, survey.id)
        moment = now()
        if latest is None or key not in held or latest.standing(moment) in ("used", "expired"):
            return False
        change, answered = surveys.answer(held[key], latest, rating, comment, moment)
        if change.events:
            changes = Changes(held)
            changes.apply(change, actor=f"contact:{held[key].state.contact.id}")
            await changes.save(tx)
            await store.answered(tx, [answered])
    return True


async def _found(db: Db, token: str) -> tuple[Survey, str] | None:
    """The survey of a token and the company that asks; None for a token that is not ours, or whose survey is gone."""
    named = surveys.read_token(token)
    if named is None:
        return None
    account_id, survey_id = named
    async with db.begin(account_id) as tx:
        found = await store.read(tx, account_id, survey_id)
        if found is None or not surveys.signed(found[1], account_id, survey_id, token):
            return None
        account = (await directory.accounts(tx, [account_id])).get(account_id)
    return found[0], account.name if account else ""


def _busy(runtime: Rt, request: Request, token: str, lang: Language | None) -> Response | None:
    """The answer to whoever asks too often, by address and by survey."""
    buckets: Buckets = runtime.extra.setdefault(_BUCKETS, Buckets(per_second=1.0, burst=30))
    keys = (f"from:{request.client.host if request.client else ''}", f"token:{token[:200]}")
    wait = max(buckets.take(key, time.monotonic()) for key in keys)
    if not wait:
        return None
    return _answer(429, page("busy", lang or language_of(request)), {"Retry-After": str(int(wait) + 1)})


def _answer(status: int, html: str, headers: dict[str, str] | None = None) -> HTMLResponse:
    return HTMLResponse(html, status, {"Content-Security-Policy": POLICY, **(headers or {})})
