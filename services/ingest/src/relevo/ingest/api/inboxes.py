"""Inboxes: a channel connected to an account, with its settings."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import Tx, directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page, page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, new_id, now
from relevo.contracts.ingest import InboxChanged, InboxState, MessageChange, ReopenPolicy, SurveySettings
from relevo.contracts.permissions import Permission
from relevo.ingest.api.common import PathId, after_id, not_found
from relevo.ingest.store import inboxes
from relevo.kernel.text import clean

router = APIRouter(tags=["inboxes"])
Reader = Annotated[Principal, Depends(require(Permission.DIRECTORY_READ, Permission.INBOXES_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.INBOXES_MANAGE))]
_WEB = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)


def _name(value: str) -> str:
    name = clean(value).strip()
    if not name:
        raise PydanticCustomError(
            "blank", "{en}", {"es": "El nombre no puede estar vacío.", "en": "The name must not be empty."}
        )
    return name


def _web_address(value: str) -> str:
    if not _WEB.fullmatch(value) or clean(value) != value:
        raise PydanticCustomError(
            "url",
            "{en}",
            {
                "es": "Debe ser una dirección completa que empiece por http:// o https://.",
                "en": "It must be a complete address that begins with http:// or https://.",
            },
        )
    return value


Name = Annotated[str, StringConstraints(max_length=100), AfterValidator(_name)]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
WebAddress = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_web_address)]


class Survey(SurveySettings):
    """Ask customers how they were served when a conversation of theirs was resolved; never about what only a bot did."""

    model_config = ConfigDict(extra="forbid")


Changes = Annotated[
    tuple[MessageChange, ...],
    AfterValidator(lambda given: tuple(sorted(set(given)))),
    Field(
        description="What the channel can do to messages that were sent, as its adapter says; a webchat can do all of it."
    ),
]


Days = Annotated[
    int,
    Field(
        ge=1,
        le=3650,
        description="Put away by itself what was resolved so many days ago, counted for what is resolved from now on; null: never.",
    ),
]
BotTimeout = Annotated[
    int, Field(ge=5, le=3_600, description="A bot that says nothing for so long loses the conversation to people.")
]


class NewInbox(BaseModel):
    """``channel`` is the adapter's kind: webchat, whatsapp, email, api, or one of your own; it never changes."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    channel: Channel
    enabled: bool = True
    reopen: ReopenPolicy = "always_one"
    team_id: Id | None = None
    bot_first: bool = Field(default=False, description="A bot that is attached to it gets conversations first.")
    bot_skips_owned: bool = Field(default=False, description="But not those of contacts who have an owner.")
    bot_timeout_seconds: BotTimeout = 60
    phone_region: Region = "ES"
    webhook_url: WebAddress | None = None
    show_typing: bool = Field(default=True, description="Tell visitors of a webchat that the team is writing to them.")
    survey: Survey | None = None
    changes: Changes = ()
    archive_after_days: Days | None = None


class InboxChange(BaseModel):
    """Only the fields that are sent change."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    enabled: bool | None = None
    reopen: ReopenPolicy | None = None
    team_id: Id | None = None
    bot_first: bool | None = None
    bot_skips_owned: bool | None = None
    bot_timeout_seconds: BotTimeout | None = None
    phone_region: Region | None = None
    webhook_url: WebAddress | None = None
    show_typing: bool | None = None
    survey: Survey | None = None
    changes: Changes | None = None
    archive_after_days: Days | None = None


_NULLABLE = frozenset({"team_id", "webhook_url", "survey", "archive_after_days"})


class InboxOut(InboxState):
    """An inbox; ``version`` counts its changes and is its ETag."""

    version: int


@router.post("/inboxes", status_code=201)
async def create_inbox(body: NewInbox, who: Manager, db: Db, once: Idempotency, response: Response) -> InboxOut:
    at = now()
    inbox = InboxState(id=new_id(), account_id=who.account_id, **body.model_dump())
    async with db.begin() as tx:
        await once.start(tx)
        await _check_team(tx, inbox)
        await inboxes.insert(tx, inbox, at)
        _emit(tx, inbox, 1, who)
        response.headers["Location"] = f"/api/v1/inboxes/{inbox.id}"
        return await once.finish(tx, _answer(response, inbox, 1))


@router.get("/inboxes")
async def list_inboxes(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[InboxOut]:
    async with db.begin() as tx:
        rows = await inboxes.page(tx, who.account_id, after_id(cursor), limit + 1)
    return page(rows, limit, lambda row: (row[0].id,), lambda row: _shown(*row, who))


@router.get("/inboxes/{inbox_id}")
async def get_inbox(inbox_id: PathId, who: Reader, db: Db, response: Response) -> InboxOut:
    async with db.begin() as tx:
        inbox, version = await _found(tx, who, inbox_id)
    _answer(response, inbox, version)
    return _shown(inbox, version, who)


@router.patch("/inboxes/{inbox_id}")
async def change_inbox(
    inbox_id: PathId,
    body: InboxChange,
    who: Manager,
    db: Db,
    *,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> InboxOut:
    if if_match is None:
        raise Problem(
            428,
            "if_match_required",
            es="Falta If-Match: envía el ETag del buzón que has leído, para no pisar el cambio de otra persona.",
            en="If-Match is missing: send the ETag of the inbox as you read it, not to undo somebody else's change.",
            errors=(FieldError("/header/if-match", es="Falta.", en="Missing."),),
        )
    changes = _changes(body)
    async with db.begin() as tx:
        before, version = await _found(tx, who, inbox_id, lock=True)
        _check_version(if_match, before, version)
        inbox = before.model_copy(update=changes)
        if inbox != before:
            version += 1
            if inbox.team_id != before.team_id:
                await _check_team(tx, inbox)
            await inboxes.update(tx, inbox, version, now())
            _emit(tx, inbox, version, who)
    return _answer(response, inbox, version)


@router.delete("/inboxes/{inbox_id}", status_code=204)
async def delete_inbox(
    inbox_id: PathId, who: Manager, db: Db, if_match: Annotated[str | None, Header()] = None
) -> None:
    """The inbox takes no more events; its conversations stay. It cannot be brought back."""
    async with db.begin() as tx:
        inbox, version = await _found(tx, who, inbox_id, lock=True)
        if if_match is not None:
            _check_version(if_match, inbox, version)
        gone = inbox.model_copy(update={"enabled": False})
        await inboxes.update(tx, gone, version + 1, now(), deleted=True)
        _emit(tx, gone, version + 1, who, deleted=True)


def _changes(body: InboxChange) -> dict[str, Any]:
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    empty = [name for name, value in changes.items() if value is None and name not in _NULLABLE]
    if empty:
        raise Problem(
            422,
            "validation_failed",
            es="Hay campos que corregir.",
            en="Some fields must be mended.",
            errors=[FieldError(f"/{name}", es="No puede ser null.", en="It must not be null.") for name in empty],
        )
    if body.survey is not None:
        changes["survey"] = SurveySettings(**body.survey.model_dump())
    return changes


async def _found(tx: Tx, who: Principal, inbox_id: str, *, lock: bool = False) -> tuple[InboxState, int]:
    found = await inboxes.one(tx, who.account_id, inbox_id, lock=lock)
    if found is None:
        raise not_found("No existe ese buzón.", "There is no such inbox.", "inbox_not_found")
    return found


async def _check_team(tx: Tx, inbox: InboxState) -> None:
    if inbox.team_id is None:
        return
    if all(team.id != inbox.team_id for team in await directory.teams(tx, inbox.account_id)):
        raise Problem(
            422,
            "team_unknown",
            es="Ese equipo no existe.",
            en="There is no such team.",
            errors=(FieldError("/team_id", es="No es un equipo de la cuenta.", en="Not a team of the account."),),
        )


def _check_version(if_match: str, inbox: InboxState, version: int) -> None:
    wanted = {tag.strip().removeprefix("W/") for tag in if_match.split(",")}
    if "*" in wanted or f'"{version}"' in wanted:
        return
    raise Problem(
        412,
        "changed_meanwhile",
        es="El buzón ha cambiado desde que lo leíste: revisa el estado actual y repite el cambio.",
        en="The inbox changed since you read it: look at its present state and make the change again.",
        headers={"ETag": f'"{version}"'},
        extra={"current": InboxOut(**inbox.model_dump(), version=version).model_dump(mode="json")},
    )


def _emit(tx: Tx, inbox: InboxState, version: int, who: Principal, *, deleted: bool = False) -> None:
    tx.emit(
        InboxChanged(inbox=inbox, deleted=deleted),
        account=inbox.account_id,
        entity=inbox.id,
        actor=who.actor,
        sequence=version,
    )


def _answer(response: Response, inbox: InboxState, version: int) -> InboxOut:
    response.headers["ETag"] = f'"{version}"'
    response.headers["Relevo-Sequence"] = str(version)
    return InboxOut(**inbox.model_dump(), version=version)


def _shown(inbox: InboxState, version: int, who: Principal) -> InboxOut:
    # A webhook's address may carry a token: only for those who manage inboxes.
    hidden = {} if who.can(Permission.INBOXES_MANAGE) else {"webhook_url": None}
    return InboxOut(**(inbox.model_dump() | hidden), version=version)
