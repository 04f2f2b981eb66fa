"""Who looks at which conversation, and who is typing there. Pure: the clock (seconds, monotonic) is given.

Nothing here is kept: whoever is not heard of again within ``stay`` seconds looks no more, and what is being typed is
forgotten after ``typing`` seconds. A socket looks at one conversation at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from relevo.contracts.live import Typing


@dataclass(frozen=True, slots=True)
class Look:
    """One window of an agent on a conversation."""

    socket_id: str
    agent_id: str
    name: str
    typing: Typing = ""


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody else who has the conversation open, in however many windows."""

    agent_id: str
    name: str
    typing: Typing


@dataclass(frozen=True, slots=True)
class Scene:
    """What goes on in a conversation, as one agent is shown it."""

    others: tuple[Other, ...] = ()
    customer_typing: bool = False


@dataclass(slots=True)
class _Seen:
    look: Look
    until: float
    typing_until: float


_STRENGTH: dict[Typing, int] = {"reply": 2, "note": 1, "": 0}


class Rooms:
    """All that is known of this moment."""

    def __init__(self, *, stay: float, typing: float) -> None:
        self._stay = stay
        self._typing = typing
        self._rooms: dict[str, dict[str, _Seen]] = {}
        self._where: dict[str, str] = {}
        self._customers: dict[str, float] = {}

    def look(self, conversation_id: str, look: Look, now: float) -> bool:
        """A socket looks there now, and nowhere else; tells whether that is news."""
        before = self._where.get(look.socket_id)
        if before is not None and before != conversation_id:
            self.leave(look.socket_id)
        self._where[look.socket_id] = conversation_id
        self._rooms.setdefault(conversation_id, {})[look.socket_id] = _Seen(look, now + self._stay, now + self._typing)
        return before != conversation_id

    def where(self, socket_id: str) -> str | None:
        """The conversation that a socket looks at."""
        return self._where.get(socket_id)

    def leave(self, socket_id: str) -> None:
        """A socket looks nowhere; one that is not known is fine."""
        conversation_id = self._where.pop(socket_id, None)
        if conversation_id is None:
            return
        room = self._rooms[conversation_id]
        del room[socket_id]
        if not room:
            del self._rooms[conversation_id]

    def customer(self, conversation_id: str, now: float, *, typing: bool) -> None:
        """The customer of a conversation is typing, or stopped."""
        if typing:
            self._customers[conversation_id] = now + self._typing
        else:
            self._customers.pop(conversation_id, None)

    def expire(self, now: float) -> set[str]:
        """Forget what was not said again in time; answers the sockets that look nowhere now."""
        gone = {socket for room in self._rooms.values() for socket, seen in room.items() if seen.until <= now}
        for socket_id in gone:
            self.leave(socket_id)
        for conversation_id in [id_ for id_, until in self._customers.items() if until <= now]:
            del self._customers[conversation_id]
        return gone

    def within(self, conversation_id: str, sockets: Iterable[str]) -> list[Look]:
        """Those of these sockets that look there."""
        room = self._rooms.get(conversation_id, {})
        return [room[socket_id].look for socket_id in sockets if socket_id in room]

    def scene(self, conversation_id: str, agent_id: str, now: float) -> Scene:
        """What an agent is shown: everybody else who is there, once, with the most public thing that they are typing."""
        found: dict[str, Other] = {}
        for seen in self._rooms.get(conversation_id, {}).values():
            look = seen.look
            if look.agent_id == agent_id or seen.until <= now:
                continue
            typing: Typing = look.typing if seen.typing_until > now else ""
            known = found.get(look.agent_id)
            if known is None or _STRENGTH[typing] > _STRENGTH[known.typing]:
                found[look.agent_id] = Other(look.agent_id, look.name, typing)
        others = tuple(sorted(found.values(), key=lambda other: (other.name, other.agent_id)))
        return Scene(others, self._customers.get(conversation_id, now) > now)
