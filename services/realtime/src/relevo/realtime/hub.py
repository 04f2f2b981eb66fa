"""The open sockets of this process, and what reaches each of them.

While a socket is open the process follows the streams; while none is, it does nothing. An event is judged for each
socket of its account by the facts that it carries, and put into that socket's bounded buffer. What does not fit is
dropped with everything before it, and the socket is told `resync`: take a new snapshot.
"""

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from relevo.chassis import Runtime
from relevo.chassis.auth import Authenticator, Principal
from relevo.chassis.bus import BusError
from relevo.chassis.database import described
from relevo.chassis.problems import Problem
from relevo.contracts import streams
from relevo.contracts.base import new_id
from relevo.contracts.catalogue import MESSAGES
from relevo.contracts.conversation import ConversationImported
from relevo.contracts.envelope import AGAIN, Envelope
from relevo.contracts.streams import Stream
from relevo.kernel.access import Viewer
from relevo.realtime import store
from relevo.realtime.domain.judging import Occurrence, judge, occurrence
from relevo.realtime.domain.position import Position, view_of
from relevo.realtime.follower import Follower, read_range
from relevo.realtime.settings import Settings
from relevo.realtime.store import Holder

log = structlog.get_logger("relevo.realtime")

UNAUTHENTICATED: Final = 4401
"""The ticket is not good, or the session or the agent is gone: sign in again."""
TOO_MANY: Final = 4429
NOT_READY: Final = 1013

_FOLLOWED: Final[tuple[tuple[str, Stream], ...]] = (
    ("conversation", streams.EVT_CONVERSATION),
    ("presence", streams.EVT_PRESENCE),
    ("notification", streams.EVT_NOTIFICATION),
)
_ACCOUNT: Final = 3
"""The token of a stored event subject that is the account."""
_MAX_HIDDEN: Final = 500
_OF_ACCESS: Final = frozenset({"agent_changed", "role_changed", "session_revoked"})
"""Events of the directory upon which the access of open sockets is looked at."""
_SOON: Final = 0.05
"""Seconds until it is looked at first: the directory's row is written about when its event is heard of."""


@dataclass(eq=False)
class Socket:
    """One open socket: its buffer, and who looks through it."""

    holder: Holder
    viewer: Viewer
    capacity: int
    name: str = ""
    id: str = field(default_factory=new_id)
    waiting: deque[str] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closing: int | None = None
    acted_at: datetime | None = None
    """When somebody last touched the device, for those that tell."""
    view: str = field(init=False)
    """What stands for the holder's access in positions."""
    dropped: int = 0
    """How often what waited was thrown away unsent."""

    def __post_init__(self) -> None:
        """Derive the view."""
        self.view = view_of(self.viewer)

    def look_as(self, viewer: Viewer) -> None:
        """From here on events are judged by this. What a slow reader was not sent yet was judged by what is over."""
        self.viewer, self.view = viewer, view_of(viewer)
        self.waiting.clear()
        self.dropped += 1

    def send(self, text: str) -> None:
        """Put a message into the buffer; one too many makes it a `resync`."""
        if len(self.waiting) >= self.capacity:
            self.waiting.clear()
            self.dropped += 1
            text = resync("overflow")
        self.waiting.append(text)
        self.arrived.set()

    def close(self, code: int) -> None:
        """Have it closed; what still waits is not sent."""
        self.closing = code
        self.arrived.set()


def resync(reason: str) -> str:
    """The message that says: what you show may be old, take a new snapshot."""
    return json.dumps({"type": "resync", "reason": reason})


class TooManySockets(Exception):
    """The agent has as many open as one may."""


class Hub:
    """All open sockets of this process."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        assert isinstance(settings, Settings)
        self.settings = settings
        self._runtime = runtime
        self._authenticator = Authenticator(runtime.database)
        self._by_account: dict[str, set[Socket]] = {}
        self._by_agent: Counter[str] = Counter()
        self._followers: dict[str, Follower] = {}
        self._directory: Follower | None = None
        self._turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self._directory_moved = asyncio.Event()
        runtime.bus.on_reconnect(self._reconnected)

    @property
    def sockets(self) -> list[Socket]:
        """Those that are open now."""
        return [socket for found in self._by_account.values() for socket in found]

    @property
    def following(self) -> bool:
        """Whether the streams are being followed."""
        return bool(self._followers)

    async def principal(self, holder: Holder) -> Principal:
        """Who the holder is and what they may see, as the directory says now. Raises Problem 401 or 503."""
        return await self._authenticator.agent(
            agent_id=holder.agent_id, account_id=holder.account_id, session_id=holder.session_id
        )

    async def join(self, socket: Socket) -> Position:
        """Let a socket have every event after the position that this answers.

        Raises TooManySockets, or BusError when the bus is away.
        """
        async with self._turn:
            if self._by_agent[socket.holder.agent_id] >= self.settings.sockets_per_agent:
                raise TooManySockets
            if not self._followers:
                await self._follow()
            self._by_account.setdefault(socket.holder.account_id, set()).add(socket)
            self._by_agent[socket.holder.agent_id] += 1
            self._opened.set()
            return self.position()

    async def leave(self, socket: Socket) -> None:
        """Forget a socket; with the last one the streams are let go."""
        async with self._turn:
            found = self._by_account.get(socket.holder.account_id, set())
            if socket not in found:
                return
            found.remove(socket)
            if not found:
                del self._by_account[socket.holder.account_id]
            self._by_agent -= Counter([socket.holder.agent_id])
            if not self._by_account:
                self._opened.clear()
                followers = self._all_followers()
                self._followers, self._directory = {}, None
                await asyncio.gather(*(follower.stop() for follower in followers))

    async def _follow(self) -> None:
        followers = {
            name: Follower(self._runtime.bus, stream, self._receiver(), self._broken) for name, stream in _FOLLOWED
        }
        directory = Follower(self._runtime.bus, streams.EVT_IDENTITY, self._heard_of_directory, self._look_at_once)
        try:
            for follower in (*followers.values(), directory):
                await follower.start()
        except BaseException:
            await asyncio.gather(*(follower.stop() for follower in (*followers.values(), directory)))
            raise
        self._followers, self._directory = followers, directory

    def _all_followers(self) -> list[Follower]:
        return [*self._followers.values(), *([self._directory] if self._directory else [])]

    def _reconnected(self) -> None:
        for follower in self._all_followers():
            follower.restart()

    def _heard_of_directory(self, msg: Msg, _seq: int) -> None:
        tokens = msg.subject.split(".")
        if tokens[_ACCOUNT] in self._by_account and tokens[-1] in _OF_ACCESS:
            self._look_at_once()

    def _look_at_once(self) -> None:
        self._directory_moved.set()

    def _broken(self) -> None:
        for socket in self.sockets:
            socket.send(resync("gap"))

    def position(self) -> Position:
        """Up to where the streams were handed out."""
        return Position(**{name: follower.seq for name, follower in self._followers.items()})

    def _receiver(self) -> Callable[[Msg, int], None]:
        def receive(msg: Msg, _seq: int) -> None:
            sockets = self._by_account.get(msg.subject.split(".")[_ACCOUNT])
            if not sockets:
                return
            event = _read(msg)
            if event is not None and self._followers:
                self._hand_out(sockets, event)

        return receive

    def _hand_out(self, sockets: Iterable[Socket], event: Occurrence) -> None:
        position = self.position()
        texts: dict[tuple[str, str], str] = {}
        for socket in sockets:
            verdict = judge(socket.viewer, event)
            if verdict == "nothing":
                continue
            key = verdict, socket.view
            if key not in texts:
                texts[key] = _text(event, verdict, position.shown(socket.view))
            socket.send(texts[key])

    async def missed(self, socket: Socket, since: Position, until: Position) -> list[str]:
        """The messages for this socket after `since`, up to `until`; a `resync` alone when they are not to be had."""
        found: list[str] = []
        at = since
        for name, stream in _FOLLOWED:
            first, last = getattr(since, name) + 1, getattr(until, name)
            state = await self._runtime.bus.stream_state(stream)
            if first > last + 1 or first < state["first_seq"]:
                return [resync("position_too_old")]
            count = 0
            if first <= last:
                subject = stream.stored(account=socket.holder.account_id)
                async for msg, seq in read_range(self._runtime.bus, stream, subject, first, last):
                    count += 1
                    if count > self.settings.socket_catch_up or AGAIN in (msg.headers or {}):
                        return [resync("position_too_old")]
                    at = replace(at, **{name: seq})
                    event = _read(msg)
                    if event is not None and (verdict := judge(socket.viewer, event)) != "nothing":
                        found.append(_text(event, verdict, at.shown(socket.view)))
            at = replace(at, **{name: last})
        return found

    async def watch(self) -> None:
        """Compare the access of open sockets with the directory, until cancelled: now and then, and when it moves.

        Its event is heard of here before or after its row is written, perhaps by another process: after one it is
        looked at again and again, at growing distances, until the usual one.
        """
        versions: dict[str, str] = {}
        usual = pause = self.settings.rejudge_seconds
        while not self._runtime.stopping.is_set():
            await self._opened.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._directory_moved.wait()
            moved = self._directory_moved.is_set()
            self._directory_moved.clear()
            pause = min(_SOON, usual) if moved else min(pause * 2, usual)
            try:
                versions = await self._rejudge(versions)
            except Exception as error:  # noqa: BLE001 — the database may be away; the next round will do
                log.warning("rejudging_again", error=described(error))

    async def _rejudge(self, known: dict[str, str]) -> dict[str, str]:
        """One round; answers the directory's versions of those who look."""
        sockets = self.sockets
        async with self._runtime.database.begin(*{socket.holder.account_id for socket in sockets}) as tx:
            versions = await store.directory_versions(tx, {socket.holder.agent_id for socket in sockets})
            ended = await store.ended_sessions(tx, {socket.holder.session_id for socket in sockets})
        for socket in sockets:
            agent = socket.holder.agent_id
            # A newcomer was judged when it opened, perhaps before the version that is read now: judge it once more.
            if socket.holder.session_id in ended or agent not in versions or known.get(socket.id) != versions[agent]:
                await self._judge_again(socket)
        return {socket.id: versions.get(socket.holder.agent_id, "") for socket in sockets}

    async def _judge_again(self, socket: Socket) -> None:
        try:
            viewer = (await self.principal(socket.holder)).viewer
        except Problem as problem:
            socket.close(UNAUTHENTICATED if problem.status == 401 else NOT_READY)
            return
        before = socket.viewer
        if viewer == before:
            return
        # What was seen until now is looked up in the projection.
        socket.look_as(viewer)
        async with self._runtime.database.begin(socket.holder.account_id) as tx:
            gone = await store.lost(tx, before, viewer, _MAX_HIDDEN)
        for conversation_id in gone:
            socket.send(json.dumps({"type": "hidden", "id": conversation_id}))
        socket.send(resync("access_changed"))


_SHOWN = frozenset(
    message.name
    for message in MESSAGES
    if "realtime" in message.consumers and message.model is not ConversationImported
)
"""Types; the streams hold others too. Thousands come with an import, of which nothing is new to anybody who looks."""


def _read(msg: Msg) -> Occurrence | None:
    try:
        envelope = Envelope.from_headers(msg.headers)
        if envelope.type not in _SHOWN:
            return None
        return occurrence(envelope, msg.subject.rsplit(".", 1)[1], msg.data)
    except (ValueError, KeyError, TypeError) as error:
        # Whoever keeps it durably makes a dead letter of it; here the line goes on.
        log.error("event_unreadable", subject=msg.subject, error=described(error))  # noqa: TRY400
        return None


def _text(event: Occurrence, verdict: str, position: str) -> str:
    shown: dict[str, Any] = {"type": "hidden", "id": event.conversation_id} if verdict == "hide" else dict(event.shown)
    return json.dumps(shown | {"position": position}, ensure_ascii=False, separators=(",", ":"))


BUS_AWAY: Final = (BusError, NatsError, TimeoutError, OSError)
"""What joining raises while the bus cannot be reached."""
