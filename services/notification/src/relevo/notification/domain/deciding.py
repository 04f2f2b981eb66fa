"""Who is told of what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relevo.contracts.conversation import AssigneeChanged, MessageCreated

KINDS: Final = ("assignment", "mention")
"""What a person may choose to be told of, and how."""

ESSENTIAL: Final = frozenset({"invitation", "password_reset"})
"""What always goes by e-mail, and never into the list: without it the person cannot get in."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a person wants to hear of one kind; this is what holds until they choose."""

    in_app: bool = True
    email: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for one agent, once per `dedup_key`."""

    agent_id: str
    kind: str
    template: str
    dedup_key: str
    data: Mapping[str, Any]
    conversation_id: str | None = None


def of_assignment(event_id: str, event: AssigneeChanged, actor: str) -> list[Notice]:
    """The new assignee is told, unless they took it themselves or had it already."""
    now = event.conversation
    agent = now.assignee_id
    if agent is None or agent == event.from_assignee_id or actor == f"agent:{agent}":
        return []
    data = {"number": now.number, "contact": now.contact.name or "—"}
    return [Notice(agent, "assignment", "assignment", f"{event_id}:{agent}", data, now.id)]


def of_mention(event_id: str, event: MessageCreated, members: Mapping[str, Sequence[str]]) -> list[Notice]:
    """Everybody whom a note mentions, by name or by team (`members`), once, but not who wrote it."""
    message = event.message
    if message.kind != "note":
        return []
    agents: dict[str, None] = {}
    for mention in message.mentions:
        kind, _, id_ = mention.partition(":")
        if kind == "agent":
            agents[id_] = None
        elif kind == "team":
            agents.update(dict.fromkeys(members.get(id_, ())))
    agents.pop(message.author.removeprefix("agent:"), None)
    data = {
        "number": event.conversation.number,
        "author": message.author_name or "Relevo",
        "text": message.text,
    }
    return [Notice(agent, "mention", "mention", f"{event_id}:{agent}", data, event.conversation.id) for agent in agents]
