"""The fields of conditions: what a conversation, its contact, a message and a change can be asked for."""

from collections.abc import Mapping
from typing import Any, Final

from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot
from relevo.kernel.conditions import FieldType

_T = FieldType
CONVERSATION: Final[Mapping[str, FieldType]] = {
    "conversation.channel": _T.KEYWORD,
    "conversation.inbox_id": _T.KEYWORD,
    "conversation.status": _T.KEYWORD,
    "conversation.stage": _T.KEYWORD,
    "conversation.priority": _T.KEYWORD,
    "conversation.language": _T.KEYWORD,
    "conversation.subject": _T.TEXT,
    "conversation.labels": _T.LIST,
    "conversation.assignee_id": _T.KEYWORD,
    "conversation.team_id": _T.KEYWORD,
    "conversation.last_responder_id": _T.KEYWORD,
    "conversation.cycle": _T.NUMBER,
    "conversation.message_count": _T.NUMBER,
    "conversation.created_at": _T.DATETIME,
    "conversation.waiting_since": _T.DATETIME,
    "sender.id": _T.KEYWORD,
}
"""`conversation.language` is what the browser, or the channel, told when it began; `sender.id` who writes, as the channel knows them."""
CONTACT: Final[Mapping[str, FieldType]] = {
    "contact.name": _T.TEXT,
    "contact.email": _T.KEYWORD,
    "contact.phone": _T.KEYWORD,
    "contact.language": _T.KEYWORD,
    "contact.labels": _T.LIST,
    "contact.company": _T.TEXT,
    "contact.city": _T.TEXT,
    "contact.country": _T.KEYWORD,
    "contact.blocked": _T.BOOLEAN,
    "contact.owner_id": _T.KEYWORD,
    "contact.owner_team_id": _T.KEYWORD,
}
"""A prefix of `contact.phone`, which is in E.164, is asked for with `starts_with`."""
EVENT: Final[Mapping[str, FieldType]] = {"actor": _T.KEYWORD, "business_hours": _T.BOOLEAN}
MESSAGE: Final[Mapping[str, FieldType]] = {
    "message.text": _T.TEXT,
    "message.kind": _T.KEYWORD,
    "message.author": _T.KEYWORD,
    "message.author_name": _T.TEXT,
    "message.first": _T.BOOLEAN,
    "message.attachments": _T.NUMBER,
}
CHANGE: Final[Mapping[str, FieldType]] = {
    "changed": _T.LIST,
    "previous.labels": _T.LIST,
    "previous.priority": _T.KEYWORD,
    "previous.subject": _T.TEXT,
    "previous.assignee_id": _T.KEYWORD,
    "previous.team_id": _T.KEYWORD,
    "previous.owner_id": _T.KEYWORD,
}
"""What a change was of (`status`, `labels`, `priority`, `subject`, `assignee`, `team`, `owner`, `attributes.KEY`), and what it was before."""
SLA: Final[Mapping[str, FieldType]] = {
    "actor": _T.KEYWORD,
    "conversation.channel": _T.KEYWORD,
    "conversation.inbox_id": _T.KEYWORD,
    "conversation.priority": _T.KEYWORD,
    "conversation.assignee_id": _T.KEYWORD,
    "conversation.team_id": _T.KEYWORD,
    "conversation.cycle": _T.NUMBER,
    "sla.measure": _T.KEYWORD,
    "sla.policy_id": _T.KEYWORD,
    "sla.target_seconds": _T.NUMBER,
    "sla.due_at": _T.DATETIME,
}
_ATTRIBUTES: Final = ("conversation.attributes.", "contact.attributes.", "previous.attributes.")
_BESIDE: Final = {"conversation.": "conversation.status", "contact.": "contact.name", "previous.": "changed"}


class Fields(dict[str, FieldType]):
    """The fields of a trigger, and the custom attributes of what it has: those are as many as an account defines."""

    def __missing__(self, name: str) -> FieldType:
        for prefix in _ATTRIBUTES:
            beside = _BESIDE[prefix.partition(".")[0] + "."]
            if name.startswith(prefix) and len(name) > len(prefix) and beside in self:
                return FieldType.ATTRIBUTE
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The type of a field; the default where there is none."""
        try:
            return self[name]
        except KeyError:
            return default


SNAPSHOT_FIELDS: Final = Fields({**CONVERSATION, **CONTACT})
"""The fields that a conversation's state alone answers, whatever happened."""


def snapshot_facts(conversation: ConversationSnapshot) -> dict[str, Any]:
    """The facts of a conversation's state."""
    return {
        "conversation.channel": conversation.channel,
        "conversation.inbox_id": conversation.inbox_id,
        "conversation.status": conversation.status,
        "conversation.stage": conversation.stage,
        "conversation.priority": conversation.priority,
        "conversation.language": conversation.language,
        "conversation.subject": conversation.subject,
        "conversation.labels": conversation.labels,
        "conversation.assignee_id": conversation.assignee_id,
        "conversation.team_id": conversation.team_id,
        "conversation.last_responder_id": conversation.last_responder_id,
        "conversation.cycle": conversation.cycle,
        "conversation.message_count": conversation.message_count,
        "conversation.created_at": conversation.created_at,
        "conversation.waiting_since": conversation.waiting_since,
        "sender.id": conversation.source_id,
        **{f"conversation.attributes.{key}": value for key, value in conversation.attributes.items()},
        **contact_facts(conversation.contact),
    }


def contact_facts(contact: ContactSnapshot) -> dict[str, Any]:
    """The facts of a contact's state."""
    return {
        "contact.name": contact.name,
        "contact.email": contact.email,
        "contact.phone": contact.phone,
        "contact.language": contact.language,
        "contact.labels": contact.labels,
        "contact.company": contact.company,
        "contact.city": contact.city,
        "contact.country": contact.country,
        "contact.blocked": contact.blocked,
        "contact.owner_id": contact.owner_id,
        "contact.owner_team_id": contact.owner_team_id,
        **{f"contact.attributes.{key}": value for key, value in contact.attributes.items()},
    }
