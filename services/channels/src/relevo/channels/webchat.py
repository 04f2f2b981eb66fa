"""The open sockets of webchat visitors in this process.

A reply is in the database first; then every replica is poked with the visitor's id, and the one that has the socket
sends what is new. A socket looks by itself now and then, so that a poke that is lost costs a few seconds only.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from nats.aio.msg import Msg

from relevo.channels.domain.signing import Visitor
from relevo.channels.inboxes import Inboxes
from relevo.channels.settings import Settings
from relevo.chassis import Runtime
from relevo.chassis.database import described
from relevo.contracts import live
from relevo.contracts.grants import poke_subject
from relevo.contracts.live import TeamTyping

log = structlog.get_logger("relevo.channels")

TYPING: Final = 6.0
"""Seconds for which somebody counts as typing unless it is said again."""
LOOK: Final = 15.0
"""Seconds after which a socket looks for replies although nobody poked it."""


@dataclass(eq=False)
class VisitorSocket:
    """One open socket; `position` is the last message that it was sent."""

    visitor: Visitor
    position: int
    changes: int = 0
    """The last change of a message that it was told."""
    poked: asyncio.Event = field(default_factory=asyncio.Event)
    typing_until: float = 0.0
    """Monotonic seconds: until then somebody of the team counts as typing."""


class Visitors:
    """Who is connected here."""

    def __init__(self, settings: Settings, inboxes: Inboxes) -> None:
        self._inboxes = inboxes
        self._most = settings.webchat_sockets_per_visitor
        self._open: dict[str, set[VisitorSocket]] = {}

    def join(self, socket: VisitorSocket) -> bool:
        """Let it be poked; False when the visitor has too many open."""
        found = self._open.setdefault(socket.visitor.id, set())
        if len(found) >= self._most:
            return False
        found.add(socket)
        return True

    def leave(self, socket: VisitorSocket) -> None:
        """Forget it; one that is not known is fine."""
        found = self._open.get(socket.visitor.id, set())
        found.discard(socket)
        if not found:
            self._open.pop(socket.visitor.id, None)

    async def listen(self, runtime: Runtime) -> None:
        """Hear the pokes of all replicas, and who of the team is typing, from now on."""
        await runtime.nats.subscribe(poke_subject(runtime.name), cb=self._poked)
        await runtime.nats.subscribe(live.TEAM.subject("*"), cb=self._typing)

    async def _poked(self, msg: Msg) -> None:
        if not msg.data:
            return  # the outbox's own poke
        try:
            told: Any = json.loads(msg.data)
        except ValueError:
            return
        for socket in self._open.get(str(told.get("visitor")), ()):
            socket.poked.set()

    async def _typing(self, msg: Msg) -> None:
        try:
            told = TeamTyping.model_validate_json(msg.data)
            account = msg.subject.rsplit(".", 1)[1]
            sockets = [
                socket
                for socket in self._open.get(told.visitor_id, ())
                if (socket.visitor.account_id, socket.visitor.inbox_id) == (account, told.inbox_id)
            ]
            inbox = await self._inboxes.get(told.inbox_id) if sockets else None
        except Exception as error:  # noqa: BLE001 — a moment's news; the subscription must live on
            log.warning("live_message_lost", error=described(error))
            return
        if inbox is None or not inbox.show_typing:
            return
        for socket in sockets:
            socket.typing_until = time.monotonic() + TYPING if told.typing else 0.0
            socket.poked.set()
