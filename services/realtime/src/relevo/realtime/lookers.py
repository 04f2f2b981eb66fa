"""Who else is looking, and who is typing: heard from every replica, shown to those who look at the same conversation.

Each replica tells what its own sockets do, on core NATS, and hears everybody, itself included, so that there is one way
only. A replica that hears of somebody new tells its own who are there, so that a newcomer, or a replica that just
started, knows everybody at once. Whoever is shown something is judged at that moment by the access rule.

To the customer goes only that a reply is being written: a private note is never told of.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Collection
from dataclasses import asdict
from typing import Final
from uuid import UUID

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from relevo.chassis import Runtime, conversation_facts
from relevo.chassis.database import described
from relevo.contracts import live
from relevo.contracts.base import Model
from relevo.contracts.live import Looking, TeamTyping, Typing, VisitorTyping
from relevo.contracts.permissions import Permission
from relevo.kernel.access import ConversationFacts, may, may_see
from relevo.realtime import chats
from relevo.realtime.domain.looking import Look, Rooms, Scene
from relevo.realtime.hub import Hub, Socket

log = structlog.get_logger("relevo.realtime")

_NEEDED: Final[dict[Typing, Permission]] = {
    "": Permission.CONVERSATIONS_READ,
    "reply": Permission.CONVERSATIONS_REPLY,
    "note": Permission.CONVERSATIONS_NOTE,
}
_TEAM_SECONDS: Final = 2.0
"""How often at most the customer is told again that somebody is typing."""


class Lookers:
    """What is going on in the conversations that agents have open."""

    def __init__(self, runtime: Runtime, hub: Hub) -> None:
        self._runtime = runtime
        settings = hub.settings
        self._rooms = Rooms(stay=settings.look_seconds, typing=settings.typing_seconds)
        self._every = min(1.0, settings.typing_seconds / 4)
        self._mine: dict[str, tuple[Socket, str]] = {}
        """The sockets of this process that look at a conversation."""
        self._shown: dict[str, tuple[Scene, int]] = {}
        """By socket, and how much the socket had dropped until then: what was dropped is shown again."""
        self._told: dict[str, float] = {}
        """When the customer was last told that this socket's agent is typing."""
        self._changed = asyncio.Event()
        self._moved: set[str] = set()
        """The conversations of which something was heard since they were shown."""

    async def listen(self) -> None:
        """Hear every replica, and the webchat's visitors, from now on."""
        await self._runtime.nats.subscribe(live.DESK.subject("*"), cb=self._on_looking)
        await self._runtime.nats.subscribe(live.VISITOR.subject("*"), cb=self._on_visitor)

    async def look(self, socket: Socket, conversation_id: str, typing: Typing) -> str | None:
        """The agent has this conversation open now, and no other in this window; answers the code of a refusal."""
        holder = socket.holder
        async with self._runtime.database.begin(holder.account_id) as tx:
            facts = (await conversation_facts.find(tx, [holder.account_id], [conversation_id])).get(conversation_id)
            visitor = await chats.visitor(tx, holder.account_id, conversation_id) if facts else None
        if facts is None or not may_see(socket.viewer, facts):
            await self.leave(socket)
            return "conversation_not_found"
        if not may(socket.viewer, _NEEDED[typing], facts):
            return "permission_missing"
        if self._mine.get(socket.id, (socket, conversation_id))[1] != conversation_id:
            await self.leave(socket)
        if socket.id not in self._mine:
            self._mine[socket.id] = (socket, conversation_id)
            self._show(socket, conversation_id, again=True)
        await self._say(holder.account_id, self._looking(socket, conversation_id, typing))
        if visitor is not None:
            await self._tell_customer(socket, visitor, typing)
        return None

    async def leave(self, socket: Socket) -> None:
        """The agent looks at nothing in this window any more."""
        _, conversation_id = self._mine.pop(socket.id, (socket, None))
        self._shown.pop(socket.id, None)
        if conversation_id is None:
            return
        account = socket.holder.account_id
        if self._told.get(socket.id):
            async with self._runtime.database.begin(account) as tx:
                visitor = await chats.visitor(tx, account, conversation_id)
            if visitor is not None:
                await self._tell_customer(socket, visitor, "")
        await self._say(account, self._looking(socket, conversation_id, gone=True))

    async def sweep(self) -> None:
        """Forget what is over, and show everybody what has changed, until the process stops.

        What is heard is shown at once to those who look there; now and then all are gone through, for what is over.
        """
        due = 0.0
        while not self._runtime.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(due - time.monotonic(), 0)):
                    await self._changed.wait()
            self._changed.clear()
            moved, self._moved = self._moved, set()
            try:
                if time.monotonic() < due:
                    await self._show_changes(moved)
                    continue
                due = time.monotonic() + self._every
                for socket_id in self._rooms.expire(time.monotonic()):
                    if socket_id in self._mine:
                        await self.leave(self._mine[socket_id][0])
                await self._show_changes({conversation_id for _, conversation_id in self._mine.values()})
            except Exception as error:  # noqa: BLE001 — the database may be away; the next round will do
                log.warning("looking_again", error=described(error))

    async def _tell_customer(self, socket: Socket, visitor: tuple[str, str], typing: Typing) -> None:
        writes = typing == "reply"
        at = time.monotonic()
        last = self._told.get(socket.id)
        if (last is None) if not writes else (last is not None and at - last < _TEAM_SECONDS):
            return
        if writes:
            self._told[socket.id] = at
        else:
            self._told.pop(socket.id, None)
        told = TeamTyping(inbox_id=visitor[0], visitor_id=visitor[1], typing=writes)
        await self._publish(live.TEAM.subject(socket.holder.account_id), told)

    async def _say(self, account: str, looking: Looking) -> None:
        await self._publish(live.DESK.subject(account), looking)

    async def _publish(self, subject: str, message: Model) -> None:
        try:
            await self._runtime.nats.publish(subject, message.model_dump_json().encode())
        except (NatsError, OSError) as error:
            # What goes on right now is said again in a moment, or is over.
            log.info("live_message_lost", error=described(error))

    def _looking(self, socket: Socket, conversation_id: str, typing: Typing = "", *, gone: bool = False) -> Looking:
        return Looking(
            conversation_id=conversation_id,
            agent_id=socket.holder.agent_id,
            name=socket.name,
            socket_id=socket.id,
            typing=typing,
            gone=gone,
        )

    async def _on_looking(self, msg: Msg) -> None:
        try:
            told = Looking.model_validate_json(msg.data)
        except ValidationError as error:
            log.warning("live_message_unreadable", subject=msg.subject, error=described(error))
            return
        account = msg.subject.rsplit(".", 1)[1]
        self._heard_of(told.conversation_id)
        if left := self._rooms.where(told.socket_id):
            self._heard_of(left)
        if told.gone:
            self._rooms.leave(told.socket_id)
        else:
            look = Look(told.socket_id, told.agent_id, told.name, told.typing)
            news = self._rooms.look(told.conversation_id, look, time.monotonic())
            if news and told.socket_id not in self._mine:
                for mine in self._rooms.within(told.conversation_id, self._mine):
                    socket, conversation_id = self._mine[mine.socket_id]
                    await self._say(account, self._looking(socket, conversation_id, mine.typing))

    async def _on_visitor(self, msg: Msg) -> None:
        account = msg.subject.rsplit(".", 1)[1]
        if not any(socket.holder.account_id == account for socket, _ in self._mine.values()):
            return
        try:
            told = VisitorTyping.model_validate_json(msg.data)
            async with self._runtime.database.begin(account) as tx:
                found = await chats.conversation(tx, account, told.inbox_id, told.visitor_id)
        except Exception as error:  # noqa: BLE001 — a moment's news; the subscription must live on
            log.warning("live_message_unreadable", subject=msg.subject, error=described(error))
            return
        if found is not None:
            self._rooms.customer(found, time.monotonic(), typing=told.typing)
            self._heard_of(found)

    def _heard_of(self, conversation_id: str) -> None:
        self._moved.add(conversation_id)
        self._changed.set()

    async def _show_changes(self, within: Collection[str]) -> None:
        at = time.monotonic()
        changed: dict[str, list[Socket]] = {}
        for socket, conversation_id in self._mine.values():
            if conversation_id not in within:
                continue
            scene = self._rooms.scene(conversation_id, socket.holder.agent_id, at)
            if (scene, socket.dropped) != self._shown.get(socket.id):
                changed.setdefault(conversation_id, []).append(socket)
        if not changed:
            return
        accounts = {socket.holder.account_id for sockets in changed.values() for socket in sockets}
        async with self._runtime.database.begin(*accounts) as tx:
            facts: dict[str, ConversationFacts] = await conversation_facts.find(tx, accounts, list(changed))
        for conversation_id, sockets in changed.items():
            for socket in sockets:
                known = facts.get(conversation_id)
                if self._mine.get(socket.id, (socket, ""))[1] != conversation_id:
                    continue  # it turned elsewhere meanwhile
                if known is None or not may_see(socket.viewer, known):
                    await self.leave(socket)
                else:
                    self._show(socket, conversation_id)

    def _show(self, socket: Socket, conversation_id: str, *, again: bool = False) -> None:
        scene = self._rooms.scene(conversation_id, socket.holder.agent_id, time.monotonic())
        if again or self._shown.get(socket.id) != (scene, socket.dropped):
            self._shown[socket.id] = scene, socket.dropped
            socket.send(
                json.dumps(
                    {
                        "type": "looking",
                        "conversation_id": conversation_id,
                        "agents": [asdict(other) for other in scene.others],
                        "customer_typing": scene.customer_typing,
                    },
                    ensure_ascii=False,
                )
            )


def conversation_id_of(value: object) -> str | None:
    """A conversation's id as a client gave it, None for what is none."""
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
