"""The open sockets of webchat visitors in this process.

A reply is in the database first; then every replica is poked with the visitor's id, and the one that has the socket
sends what is new. A socket looks by itself now and then, so that a poke that is lost costs a few seconds only.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

from nats.aio.msg import Msg

from relevo.channels.domain.signing import Visitor
from relevo.channels.settings import Settings
from relevo.chassis import Runtime
from relevo.contracts.grants import poke_subject

LOOK: Final = 15.0
"""Seconds after which a socket looks for replies although nobody poked it."""


@dataclass(eq=False)
class VisitorSocket:
    """One open socket; `position` is the last message that it was sent."""

    visitor: Visitor
    position: int
    poked: asyncio.Event = field(default_factory=asyncio.Event)


class Visitors:
    """Who is connected here."""

    def __init__(self, settings: Settings) -> None:
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
        """Hear the pokes of all replicas from now on."""
        await runtime.nats.subscribe(poke_subject(runtime.name), cb=self._poked)

    async def _poked(self, msg: Msg) -> None:
        if not msg.data:
            return  # the outbox's own poke
        try:
            told: Any = json.loads(msg.data)
        except ValueError:
            return
        for socket in self._open.get(str(told.get("visitor")), ()):
            socket.poked.set()
