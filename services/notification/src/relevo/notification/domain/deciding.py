"""Who is told of what, and how."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relevo.contracts.conversation import AssigneeChanged, MessageCreated, ReminderDue
from relevo.contracts.snapshots import ConversationSnapshot

KINDS: Final = ("assignment", "mention", "message", "reminder", "alert")
"""What a person may choose to be told of, and how."""

TOLD_ONCE: Final = frozenset({"message"})
"""Of a conversation's news of these kinds a list tells once until it is read; what comes meanwhile is counted there."""

ESSENTIAL: Final = frozenset({"invitation", "password_reset", "security", "sign_up"})
"""What always goes by e-mail, at once, and never into the list: without it the person cannot get in."""

MAILED: Final = ESSENTIAL | {"rule_mail"}
"""The same, with what a rule mails to a team: who wrote the rule chose the way."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a person wants to hear of one kind; this is what holds until they, or their account, choose."""

    in_app: bool = True
    email: bool = False
    push: bool = True


Choices = Mapping[tuple[str, str], Choice]
"""By (agent or account id, kind)."""


def chosen(choices: Choices, account_id: str, agent_id: str, kind: str) -> Choice:
    """What holds for an agent: their own choice, else the account's, else the usual. Other kinds count as alerts."""
    known = kind if kind in KINDS else "alert"
    return choices.get((agent_id, known)) or choices.get((account_id, known)) or Choice()


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


def of_message(event_id: str, event: MessageCreated, members: Mapping[str, Sequence[str]]) -> list[Notice]:
    """Whom a note mentions, by name or by team (`members`), and who works on what the customer wrote into; each once."""
    message, talk = event.message, event.conversation
    if message.kind == "note":
        return _mentions(event_id, event, members)
    if message.kind != "incoming":
        return []
    data = {
        "number": talk.number,
        "contact": talk.contact.name or message.author_name or "—",
        "text": message.text or ("📎" if message.attachments else "—"),
    }
    return [Notice(agent, "message", "message", f"{event_id}:{agent}", data, talk.id) for agent in _working_on(talk)]


def of_reminder(event_id: str, event: ReminderDue, members: Mapping[str, Sequence[str]]) -> list[Notice]:
    """Whom a reminder is for: an agent, or everybody of a team (`members`); also who set it themselves."""
    talk = event.conversation
    agents = [event.agent_id] if event.agent_id else members.get(event.team_id or "", ())
    data = {"number": talk.number, "contact": talk.contact.name or "—", "text": event.reminder.text or "—"}
    return [Notice(agent, "reminder", "reminder", f"{event_id}:{agent}", data, talk.id) for agent in agents]


def _working_on(talk: ConversationSnapshot) -> Iterable[str]:
    people = ([talk.assignee_id] if talk.assignee_id else []) + list(talk.participant_ids)
    return dict.fromkeys(people)


def _mentions(event_id: str, event: MessageCreated, members: Mapping[str, Sequence[str]]) -> list[Notice]:
    message = event.message
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
