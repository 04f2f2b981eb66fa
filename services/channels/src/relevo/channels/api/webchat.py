"""The webchat's public side: visitors of any web page, without an account, each with a token of their own."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, StringConstraints

from relevo.channels import store
from relevo.channels.domain.languages import preferred_language
from relevo.channels.domain.signing import Visitor, read_visitor_token, visitor_token
from relevo.channels.inboxes import Inboxes
from relevo.channels.reports import BUS_AWAY, publish, status_of
from relevo.channels.settings import Settings
from relevo.channels.webchat import LOOK, Visitors, VisitorSocket
from relevo.chassis import Runtime, problems
from relevo.chassis.database import described
from relevo.chassis.http import Rt
from relevo.chassis.paging import MAX_LIMIT
from relevo.chassis.problems import FieldError, Problem, unavailable
from relevo.contracts import live
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.inbound import Content, InboundMessage, Sender
from relevo.contracts.ingest import InboxState
from relevo.contracts.live import VisitorTyping
from relevo.kernel.rate import Buckets
from relevo.kernel.text import clean

log = structlog.get_logger("relevo.channels")

_UNAUTHENTICATED: Final = 4401
_TOO_MANY: Final = 4429
_SLOWEST: Final = 30.0
_TYPING_AGAIN: Final = 1.0
"""Seconds; a page that says more often that its visitor is typing is not passed on."""
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT: Final = {
    **_CORS,
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept-Language",
    "Access-Control-Max-Age": "86400",
}


class _Public(APIRoute):
    """A route that pages of any origin may call: it takes no cookie, only a token that the page itself holds."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            # Errors too need the header: without it a page cannot read them.
            try:
                response = await inner(request)
            except Problem as problem:
                response = problems.response(problem, problems.language_of(request))
            except RequestValidationError as invalid:
                response = problems.response(problems.from_validation(invalid.errors()), problems.language_of(request))
            response.headers.update(_CORS)
            return response

        return handle


router = APIRouter(tags=["webchat"], route_class=_Public)
Line = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]


class NewSession(BaseModel):
    """Whoever opens the chat."""

    name: Line = Field(default="", description="As the visitor wishes to be called.")
    language: LanguageTag | None = Field(
        default=None,
        description="As BCP 47 (`es`, `pt-BR`); without it what the browser prefers, by its Accept-Language.",
    )


class SessionOut(BaseModel):
    """A visitor. Keep the token in the page's storage: it is the visitor until it expires."""

    visitor_id: str
    token: str
    expires_at: Time


class Say(BaseModel):
    """What a visitor writes."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(
        description="The widget's own id of the message, new for each; sending it again changes nothing."
    )
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class ChatMessage(BaseModel):
    """One message as the visitor sees it. `author` is `visitor` or `team`."""

    position: int = Field(description="Give the last one's as `after` to get what follows.")
    id: str
    client_id: str | None
    author: str
    author_name: str
    text: str
    attachments: list[dict[str, Any]]
    status: str
    at: Time
    edited_at: Time | None = Field(default=None, description="When the team wrote it anew.")
    deleted_at: Time | None = Field(default=None, description="When the team took it back; it says nothing any more.")


class ChatMessages(BaseModel):
    """Messages in their order."""

    items: list[ChatMessage]


async def _chat(inbox: UUID, rt: Rt) -> InboxState:
    found = await _inboxes(rt).get(str(inbox))
    if found is None or found.channel != "webchat" or not found.enabled:
        raise Problem(404, "webchat_not_found", es="No existe ese chat.", en="There is no such chat.")
    return found


_bearer = HTTPBearer(auto_error=False, description="The visitor's token.", scheme_name="Visitor")


async def _visitor(
    inbox: UUID, rt: Rt, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Visitor:
    token = bearer.credentials if bearer else ""
    visitor = read_visitor_token(_settings(rt).key, token, str(inbox), now())
    if visitor is None:
        raise Problem(
            401,
            "invalid_visitor",
            es="La sesión del chat no vale o ha caducado: abre otra.",
            en="The chat session is not valid or has expired: open another.",
            headers={"WWW-Authenticate": 'Bearer realm="webchat"'},
        )
    _pass(rt, visitor.id)
    return visitor


Chat = Annotated[InboxState, Depends(_chat)]
Guest = Annotated[Visitor, Depends(_visitor)]


@router.options("/webchat/{path:path}", include_in_schema=False)
async def allow_webchat(path: str) -> Response:  # noqa: ARG001 — all of them
    """Answer a browser that asks whether a page may call us."""
    return Response(status_code=204, headers=_PREFLIGHT)


@router.post("/webchat/{inbox}/sessions", status_code=201)  # noqa: FAST003 — its dependencies take the inbox
async def open_webchat_session(body: NewSession, chat: Chat, rt: Rt, request: Request) -> SessionOut:
    """Become a visitor."""
    _pass(rt, f"from:{request.client.host if request.client else ''}")
    settings = _settings(rt)
    expires_at = now().replace(microsecond=0) + timedelta(days=settings.webchat_session_days)
    language = body.language or preferred_language(request.headers.get("accept-language", ""))
    visitor = Visitor(new_id(), chat.account_id, chat.id, clean(body.name), int(expires_at.timestamp()), language)
    return SessionOut(visitor_id=visitor.id, token=visitor_token(settings.key, visitor), expires_at=expires_at)


@router.post("/webchat/{inbox}/messages", status_code=202)  # noqa: FAST003 — its dependencies take the inbox
async def send_webchat_message(body: Say, chat: Chat, visitor: Guest, rt: Rt) -> ChatMessage:
    """Write to the team. Once it is answered the message cannot be lost; without an answer send it again as it is."""
    said = clean(body.text).strip()
    if not said:
        raise Problem(
            422,
            "validation_failed",
            es="Hay campos que corregir.",
            en="Some fields must be mended.",
            errors=[FieldError("/text", es="Está vacío.", en="It is empty.")],
        )
    async with rt.database.begin(chat.account_id) as tx:
        row = await store.add_said(
            tx, chat.account_id, chat.id, visitor.id, client_id=body.id, name=visitor.name, body=said, at=now()
        )
    # From the row and not from the request: the same message sent again is the same event, whatever has changed.
    event = InboundMessage(
        kind="message",
        external_id=row["id"],
        sender=Sender(id=visitor.id, name=visitor.name, language=visitor.language),
        content=Content(text=row["body"]),
        occurred_at=row["at"],
    )
    try:
        await publish(
            rt,
            event_id=row["id"],
            account_id=chat.account_id,
            inbox_id=chat.id,
            sender=visitor.id,
            kind="message",
            body=event.model_dump_json(exclude_none=True).encode(),
        )
    except BUS_AWAY as error:
        log.warning("webchat_message_waits", error=described(error))
        raise unavailable(
            es="El mensaje no se ha podido enviar: inténtalo de nuevo en un momento.",
            en="The message could not be sent: try again in a moment.",
        ) from None
    async with rt.database.begin(chat.account_id) as tx:
        await store.said(tx, row["id"])
    return _out({**row, "status": "sent"})


@router.get("/webchat/{inbox}/messages")  # noqa: FAST003 — its dependencies take the inbox
async def list_webchat_messages(
    chat: Chat,
    visitor: Guest,
    rt: Rt,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> ChatMessages:
    """What the visitor and the team have said, oldest first."""
    async with rt.database.begin(chat.account_id) as tx:
        rows = await store.messages(tx, chat.id, visitor.id, after, limit)
    return ChatMessages(items=[_out(row) for row in rows])


@router.websocket("/webchat/{inbox}/socket")
async def open_webchat_socket(
    connection: WebSocket,
    inbox: UUID,
    token: Annotated[str, Query(max_length=4000)],
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> None:
    """Push replies to the visitor, from a position on.

    We send `{"type": "message", "data": …}`, of one that the team edits or takes back `{"type": "changed", "data": …}`, and
    `{"type": "typing", "typing": …}` while somebody of the team writes, if the
    inbox shows it; the page sends `{"type": "read", "position": …}` when replies were seen, and `{"type": "typing",
    "typing": …}` every three seconds while the visitor writes, and when they stop.
    """
    runtime: Runtime = connection.app.state.runtime
    await connection.accept()
    visitor = read_visitor_token(_settings(runtime).key, token, str(inbox), now())
    chat = await _inboxes(runtime).get(str(inbox))
    if visitor is None or chat is None or chat.channel != "webchat" or not chat.enabled:
        await connection.close(_UNAUTHENTICATED, "open another session")
        return
    visitors: Visitors = runtime.extra["visitors"]
    socket = VisitorSocket(visitor, after)
    if not visitors.join(socket):
        await connection.close(_TOO_MANY, "too many sockets open")
        return
    tasks = [
        asyncio.create_task(_push(connection, runtime, socket), name="webchat push"),
        asyncio.create_task(_hear(connection, runtime, socket), name="webchat hear"),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        visitors.leave(socket)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | TimeoutError):
                log.warning("webchat_socket_failed", error=repr(outcome)[:300])
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may be closed already
        await connection.close()


async def _push(connection: WebSocket, runtime: Runtime, socket: VisitorSocket) -> None:
    visitor, shown = socket.visitor, False
    while True:
        socket.poked.clear()
        async with runtime.database.begin(visitor.account_id) as tx:
            changed = await store.changed(tx, visitor.inbox_id, visitor.id, socket.changes, socket.position, MAX_LIMIT)
            rows = await store.messages(tx, visitor.inbox_id, visitor.id, socket.position, MAX_LIMIT)
        for row in changed:
            news = {"type": "changed", "data": _out(row).model_dump(mode="json")}
            async with asyncio.timeout(_SLOWEST):
                await connection.send_text(json.dumps(news, ensure_ascii=False))
            socket.changes = row["changed"]
        for row in rows:
            message = {"type": "message", "data": _out(row).model_dump(mode="json")}
            async with asyncio.timeout(_SLOWEST):
                await connection.send_text(json.dumps(message, ensure_ascii=False))
            socket.position = row["position"]
        if any(row["author"] == "team" for row in rows):
            socket.typing_until = 0.0  # what was being written is here
            await _reached(runtime, visitor, socket.position, "delivered")
        left = socket.typing_until - time.monotonic()
        if (left > 0) is not shown:
            shown = left > 0
            async with asyncio.timeout(_SLOWEST):
                await connection.send_text(json.dumps({"type": "typing", "typing": shown}))
        if len(rows) < MAX_LIMIT and len(changed) < MAX_LIMIT:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if shown else LOOK):
                    await socket.poked.wait()


async def _hear(connection: WebSocket, runtime: Runtime, socket: VisitorSocket) -> None:
    typing, typing_at = False, 0.0
    while True:
        try:
            told: Any = json.loads(await connection.receive_text())
        except WebSocketDisconnect:
            if typing:
                await _typing(runtime, socket.visitor, typing=False)
            raise
        except (ValueError, KeyError):
            told = None
        match told:
            case {"type": "ping"}:
                answer = {"type": "pong"}
            case {"type": "typing", "typing": bool(writes)}:
                due = time.monotonic() - typing_at >= _TYPING_AGAIN
                if due if writes else typing:
                    typing, typing_at = writes, time.monotonic() if writes else typing_at
                    await _typing(runtime, socket.visitor, typing=writes)
                continue
            case {"type": "read", "position": int(position)} if 0 <= position < 2**63:
                if _buckets(runtime).take(socket.visitor.id, time.monotonic()):
                    answer = {"type": "error", "code": "rate_limited"}
                else:
                    await _reached(runtime, socket.visitor, min(position, socket.position), "read")
                    continue
            case _:
                answer = {"type": "error", "code": "unknown_message"}
        async with asyncio.timeout(_SLOWEST):
            await connection.send_text(json.dumps(answer))


async def _typing(runtime: Runtime, visitor: Visitor, *, typing: bool) -> None:
    told = VisitorTyping(inbox_id=visitor.inbox_id, visitor_id=visitor.id, typing=typing)
    try:
        await runtime.nats.publish(live.VISITOR.subject(visitor.account_id), told.model_dump_json().encode())
    except BUS_AWAY as error:
        log.info("live_message_lost", error=described(error))


async def _reached(runtime: Runtime, visitor: Visitor, until: int, status: str) -> None:
    async with runtime.database.begin(visitor.account_id) as tx:
        ids = await store.reached(tx, visitor.inbox_id, visitor.id, until, status)
        statuses = [status_of(id_, visitor.id, status) for id_ in ids]
        await store.report(tx, visitor.account_id, visitor.inbox_id, statuses)
    if ids:
        runtime.extra["reports"].set()


def _out(row: Any) -> ChatMessage:
    return ChatMessage(text=row["body"], **{name: row[name] for name in ChatMessage.model_fields if name != "text"})


def _pass(runtime: Runtime, key: str) -> None:
    wait = _buckets(runtime).take(key, time.monotonic())
    if wait:
        raise Problem(
            429,
            "rate_limited",
            es="Demasiados mensajes seguidos: espera un momento.",
            en="Too many messages in a row: wait a moment.",
            headers={"Retry-After": str(int(wait) + 1)},
        )


def _inboxes(runtime: Runtime) -> Inboxes:
    found: Inboxes = runtime.extra["inboxes"]
    return found


def _buckets(runtime: Runtime) -> Buckets:
    found: Buckets = runtime.extra["buckets"]
    return found


def _settings(runtime: Runtime) -> Settings:
    assert isinstance(runtime.settings, Settings)
    return runtime.settings
