"""HTTP: tickets, and the socket itself."""

import asyncio
import contextlib
import json
import time
from datetime import timedelta
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Query, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field

from relevo.chassis import Runtime
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import described
from relevo.chassis.http import Db, Rt
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, now
from relevo.kernel.rate import Buckets
from relevo.realtime import store
from relevo.realtime.domain.position import Position
from relevo.realtime.heart import beat
from relevo.realtime.hub import BUS_AWAY, NOT_READY, TOO_MANY, UNAUTHENTICATED, Hub, Socket, TooManySockets, resync
from relevo.realtime.lookers import Lookers, conversation_id_of
from relevo.realtime.settings import Settings
from relevo.realtime.store import Holder

log = structlog.get_logger("relevo.realtime")
router = APIRouter(tags=["socket"])

_SLOWEST: Final = 30.0
"""Seconds that one message may take to leave; then the socket is given up."""
_IDLE_AT_ONCE: Final = timedelta(minutes=1)
"""The shortest time after which presence may take somebody for away."""


class TicketOut(BaseModel):
    """What opens one socket, once."""

    ticket: str = Field(description="Open `GET /socket?ticket=…` with it; good for one socket, until it expires.")
    expires_at: Time


@router.post("/socket/tickets", status_code=201)
async def create_socket_ticket(who: Annotated[Principal, Depends(require())], db: Db, rt: Rt) -> TicketOut:
    """A ticket for one socket. It stands in an address, hence it is no token and works only once."""
    if who.session_id is None:
        raise Problem(
            403,
            "not_an_agent",
            es="Solo una persona con sesión abre un socket: una clave de API lee los eventos del bus.",
            en="Only a person with a session opens a socket: an API key reads events from the bus.",
        )
    settings = rt.settings
    assert isinstance(settings, Settings)
    moment, lifetime = now(), timedelta(seconds=settings.socket_ticket_seconds)
    async with db.begin() as tx:
        ticket = await store.add_ticket(tx, Holder(who.account_id, who.id, who.session_id), moment, lifetime)
    return TicketOut(ticket=ticket, expires_at=moment + lifetime)


@router.websocket("/socket")
async def open_socket(
    connection: WebSocket,
    ticket: Annotated[str, Query(max_length=100)],
    position: Annotated[str | None, Query(max_length=100)] = None,
) -> None:
    """Stream to an agent what they may see.

    First comes `{"type": "hello", "position"}`; snapshots taken after it and the events that follow leave nothing out.
    With `?position=` of an earlier message the events since then come first, or a `resync` when they are not to be had.

    The client says `{"type": "look", "conversation_id", "typing": "" | "reply" | "note"}` when a conversation is opened in
    this window, again every ten seconds, and every three seconds while something is typed there; with `conversation_id`
    null when none is open. It is told `{"type": "looking", "conversation_id", "agents", "customer_typing"}` at once and
    whenever that changes: who else has it open, and what they type. A webchat's visitor is told of `reply` only.

    Closes with 4401 (sign in again), 4429 (too many sockets), 1013 (try again in a moment).
    """
    runtime = connection.app.state.runtime
    hub: Hub = runtime.extra["hub"]
    lookers: Lookers = runtime.extra["lookers"]
    # Accepted before it is judged: a browser tells its page nothing of a refused handshake.
    await connection.accept()
    async with runtime.database.begin(door="ticket", sought=store.digest(ticket).hex()) as tx:
        holder = await store.take_ticket(tx, ticket, now())
    if holder is None:
        await connection.close(UNAUTHENTICATED, "ticket unknown, used or expired")
        return
    try:
        principal = await hub.principal(holder)
        socket = Socket(holder, principal.viewer, hub.settings.socket_buffer, principal.name)
        head = await hub.join(socket)
    except Problem as problem:
        await connection.close(UNAUTHENTICATED if problem.status == 401 else NOT_READY, problem.code)
        return
    except TooManySockets:
        await connection.close(TOO_MANY, "too many sockets open")
        return
    except BUS_AWAY:
        await connection.close(NOT_READY, "try again in a moment")
        return
    signed_out = False
    try:
        await beat(runtime, [socket])
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            await _begin(connection, hub, socket, head, position)
            signed_out = await _serve(connection, socket, lookers)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may be closed already
            await connection.close()
    finally:
        await lookers.leave(socket)
        await hub.leave(socket)
        await beat(runtime, [socket], connected=False, signed_out=signed_out)


async def _begin(connection: WebSocket, hub: Hub, socket: Socket, head: Position, position: str | None) -> None:
    await _send(connection, json.dumps({"type": "hello", "position": head.shown(socket.view)}))
    if position is None:
        return
    since, view = Position.parse(position) or (None, "")
    try:
        if since is None:
            missed = [resync("position_unknown")]
        elif view != socket.view:
            missed = [resync("access_changed")]
        else:
            missed = await hub.missed(socket, since, head)
    except BUS_AWAY as error:
        log.warning("catching_up_failed", error=described(error))
        missed = [resync("gap")]
    for text in missed:
        await _send(connection, text)


async def _serve(connection: WebSocket, socket: Socket, lookers: Lookers) -> bool:
    """Send and listen until one side closes; tells whether the agent signed out."""
    listener = asyncio.create_task(_listen(connection, socket, lookers), name="socket listener")
    sender = asyncio.create_task(_pour(connection, socket), name="socket sender")
    try:
        await asyncio.wait({listener, sender}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (listener, sender):
            task.cancel()
        outcomes = await asyncio.gather(listener, sender, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | TimeoutError):
            log.warning("socket_failed", error=repr(outcome)[:300])
    return outcomes[0] is True


async def _pour(connection: WebSocket, socket: Socket) -> None:
    while True:
        await socket.arrived.wait()
        socket.arrived.clear()
        while socket.waiting and socket.closing is None:
            await _send(connection, socket.waiting.popleft())
        if socket.closing is not None:
            await connection.close(socket.closing)
            return


async def _listen(connection: WebSocket, socket: Socket, lookers: Lookers) -> bool:
    """Answer pings, hear where the agent looks; True when the agent signs out, False when the socket was closed."""
    looks = Buckets(per_second=2, burst=10)
    while True:
        try:
            message: Any = json.loads(await connection.receive_text())
        except WebSocketDisconnect:
            return False
        except (ValueError, KeyError):
            message = None
        match message:
            case {"type": "ping"}:
                socket.send('{"type": "pong"}')
            case {"type": "sign_out"}:
                return True
            case {"type": "active"}:
                await _active(connection.app.state.runtime, socket)
            case {"type": "look"} if looks.take(socket.id, time.monotonic()):
                socket.send('{"type": "error", "code": "rate_limited"}')
            case {"type": "look", "conversation_id": None}:
                await lookers.leave(socket)
            case {"type": "look", "conversation_id": str(given)}:
                await _look(socket, lookers, given, message.get("typing", ""))
            case _:
                socket.send(
                    '{"type": "error", "code": "unknown_message", "expected": ["ping", "look", "active", "sign_out"]}'
                )


async def _active(runtime: Runtime, socket: Socket) -> None:
    """Somebody touched the device. Presence hears of it with the next beat; at once when they may have been taken for away."""
    before, socket.acted_at = socket.acted_at, now()
    if before is None or socket.acted_at - before > _IDLE_AT_ONCE:
        await beat(runtime, [socket])


async def _look(socket: Socket, lookers: Lookers, given: str, typing: Any) -> None:
    conversation_id = conversation_id_of(given)
    if typing not in ("", "reply", "note"):
        refused: str | None = "unknown_typing"
    elif conversation_id is None:
        refused = "conversation_not_found"
    else:
        refused = await lookers.look(socket, conversation_id, typing)
    if refused is not None:
        socket.send(json.dumps({"type": "error", "code": refused, "conversation_id": given[:100]}))


async def _send(connection: WebSocket, text: str) -> None:
    async with asyncio.timeout(_SLOWEST):
        await connection.send_text(text)
