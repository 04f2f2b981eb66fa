"""What goes on right now and is nothing any more a moment later: who looks at a conversation, who is typing.

Core NATS, in no stream and no outbox: nobody who was away hears of it, and whoever hears it forgets it after a few
seconds unless it is said again. One subject for each account; the broker vouches for which service speaks.
"""

from dataclasses import dataclass
from typing import Literal

from relevo.contracts.base import Id, Model

Typing = Literal["", "reply", "note"]
"""What an agent is writing: nothing, something for the customer, or a private note."""


class Looking(Model):
    """An agent has a conversation open in one window, or no longer has (``gone``)."""

    conversation_id: Id
    agent_id: Id
    name: str
    socket_id: Id
    typing: Typing = ""
    gone: bool = False


class VisitorTyping(Model):
    """A visitor of a webchat is writing, or stopped."""

    inbox_id: Id
    visitor_id: str
    typing: bool


class TeamTyping(Model):
    """Somebody of the team writes to a visitor of a webchat, or stopped. It says not who, and never tells of a note."""

    inbox_id: Id
    visitor_id: str
    typing: bool


@dataclass(frozen=True, slots=True)
class Live:
    """One kind of such messages: who says it, who hears it."""

    kind: str
    model: type[Model]
    publisher: str
    listener: str

    def subject(self, account: str) -> str:
        """Core NATS; ``*``: of all accounts."""
        return f"live.{self.kind}.{account}"


DESK = Live("desk", Looking, "realtime", "realtime")
VISITOR = Live("visitor", VisitorTyping, "channels", "realtime")
TEAM = Live("team", TeamTyping, "realtime", "channels")

LIVE: tuple[Live, ...] = (DESK, VISITOR, TEAM)
