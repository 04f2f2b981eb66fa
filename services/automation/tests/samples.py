"""Events as conversation publishes them, and rules, for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from relevo.automation.domain.rules import Rule, compile_rule
from relevo.automation.domain.triggers import Occurrence, occurrence
from relevo.contracts.base import Model, new_id
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.envelope import Envelope
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACCOUNT, AGENT, TEAM, INBOX = (new_id() for _ in range(4))


def envelope(data: Model, **values: Any) -> Envelope:
    message = BY_MODEL[type(data)]
    fields: dict[str, Any] = {
        "id": new_id(),
        "type": message.name,
        "source": "relevo/test",
        "account": ACCOUNT,
        "entity": new_id(),
        "time": NOON,
        "recorded": NOON,
        "actor": "contact:c",
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
        "stage": "new",
        "created_at": NOON - timedelta(days=1),
        "opened_at": NOON,
        "last_activity_at": NOON,
        "sequence": 2,
    }
    return ConversationSnapshot(**{**fields, **values})


def said(text: str, *, kind: str = "incoming", human: bool = True, **values: Any) -> MessageCreated:
    snapshot = conversation(**values)
    return MessageCreated(
        conversation=snapshot,
        message=MessageSnapshot(
            id=new_id(),
            conversation_id=snapshot.id,
            kind=kind,
            sequence=2,
            text=text,
            author="contact:c",
            occurred_at=NOON,
            created_at=NOON,
        ),
        first=True,
        human=human,
    )


def event(data: Model, **values: Any) -> Occurrence:
    found = occurrence(envelope(data, **values), data)
    assert found is not None
    return found


def rule(conditions: Any = None, *, trigger: Any = "message_received", actions: Any = None, **values: Any) -> Rule:
    fields: dict[str, Any] = {"id": new_id(), "version": 1, "name": "r"}
    return compile_rule(
        **{**fields, **values},
        trigger=trigger,
        conditions=conditions or {"all": []},
        actions=actions or [{"type": "add_labels", "labels": ["x"]}],
    )


def contains(field: str, value: str, **options: Any) -> dict[str, Any]:
    return {"field": field, "operator": "contains", "value": value, **options}
