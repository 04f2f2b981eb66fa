"""Events as the other services publish them, for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from relevo.contracts.base import Model, new_id
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.envelope import Envelope
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACCOUNT, AGENT, TEAM, INBOX = (new_id() for _ in range(4))


def envelope(data: Model, *, at: datetime = NOON, account: str = ACCOUNT, **values: Any) -> Envelope:
    message = BY_MODEL[type(data)]
    fields: dict[str, Any] = {
        "id": new_id(),
        "type": message.name,
        "source": "relevo/test",
        "account": account,
        "entity": new_id(),
        "time": at,
        "recorded": at + timedelta(milliseconds=5),
    }
    return Envelope(**{**fields, **values})


def conversation(**values: Any) -> ConversationSnapshot:
    fields: dict[str, Any] = {
        "id": new_id(),
        "account_id": ACCOUNT,
        "number": 1,
        "inbox_id": INBOX,
        "channel": "webchat",
        "contact": ContactSnapshot(id=new_id(), name="Ana"),
        "source_id": "s",
        "status": "open",
        "stage": "in_progress",
        "labels": ("vip",),
        "priority": "high",
        "language": "es",
        "assignee_id": AGENT,
        "team_id": TEAM,
        "created_at": NOON - timedelta(days=1),
        "opened_at": NOON - timedelta(minutes=10),
        "last_activity_at": NOON,
        "sequence": 3,
    }
    return ConversationSnapshot(**{**fields, **values})


def message(snapshot: ConversationSnapshot, **values: Any) -> MessageSnapshot:
    fields: dict[str, Any] = {
        "id": new_id(),
        "conversation_id": snapshot.id,
        "kind": "incoming",
        "sequence": snapshot.sequence,
        "text": "Hola",
        "author": f"contact:{snapshot.contact.id}",
        "occurred_at": NOON,
        "created_at": NOON,
    }
    return MessageSnapshot(**{**fields, **values})


def reply(*, snapshot: ConversationSnapshot | None = None, author: str = AGENT, **values: Any) -> MessageCreated:
    snapshot = snapshot or conversation(first_reply_at=NOON)
    return MessageCreated(
        conversation=snapshot,
        message=message(snapshot, kind="outgoing", author=f"agent:{author}", status="queued"),
        **values,
    )


def incoming(snapshot: ConversationSnapshot | None = None) -> MessageCreated:
    snapshot = snapshot or conversation()
    return MessageCreated(conversation=snapshot, message=message(snapshot))
