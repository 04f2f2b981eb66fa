"""Which event an agent is shown: the access rule, held against the facts that the event itself carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from relevo.contracts.envelope import Envelope
from relevo.contracts.permissions import Permission
from relevo.kernel.access import ConversationFacts, Viewer, may_see

Verdict = Literal["show", "hide", "nothing"]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event as sockets get it, and what decides who does.

    ``before`` and ``after`` are a conversation's facts; ``agent_id`` is whom a status or a notification is about.
    """

    kind: Literal["conversation", "contact", "presence", "notification"]
    account_id: str
    shown: Mapping[str, Any]
    conversation_id: str | None = None
    before: ConversationFacts | None = None
    after: ConversationFacts | None = None
    agent_id: str | None = None


def occurrence(envelope: Envelope, token: str, body: bytes) -> Occurrence:
    """An event of the streams that sockets follow.

    Raises ValueError, KeyError or TypeError for a body that is not of the form that its publisher promises.
    """
    data = json.loads(body)
    before = data.pop("before", None)
    snapshot = data.get("conversation")
    conversation_id: str | None = snapshot["id"] if snapshot else data.get("conversation_id")
    shown = {
        "type": token,
        "id": envelope.id,
        "conversation_id": conversation_id,
        "sequence": envelope.sequence,
        "at": envelope.time.isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    account = envelope.account
    if snapshot:
        earlier = _facts(account, before) if before else None
        return Occurrence("conversation", account, shown, conversation_id, earlier, _facts(account, snapshot))
    if token.startswith("contact_"):
        # Ids of conversations that a reader of contacts may not even know of.
        data.pop("conversation_ids", None)
        return Occurrence("contact", account, shown)
    if "status" in data:
        return Occurrence("presence", account, shown, agent_id=data["status"]["agent_id"])
    return Occurrence("notification", account, shown, conversation_id, agent_id=data["agent_id"])


def _facts(account_id: str, given: Mapping[str, Any]) -> ConversationFacts:
    return ConversationFacts(
        account_id=account_id,
        inbox_id=given["inbox_id"],
        team_id=given.get("team_id"),
        assignee_id=given.get("assignee_id"),
        participant_ids=frozenset(given.get("participant_ids") or ()),
        owner_id=given.get("owner_id"),
    )


def judge(viewer: Viewer, event: Occurrence) -> Verdict:
    """Show the event, tell only that its conversation is out of sight now, or send nothing."""
    if viewer.account_id != event.account_id:
        return "nothing"
    match event.kind:
        case "conversation":
            if event.after is not None and may_see(viewer, event.after):
                return "show"
            return "hide" if event.before is not None and may_see(viewer, event.before) else "nothing"
        case "contact":
            allowed = Permission.CONTACTS_READ in viewer.permissions
        case "presence":
            allowed = Permission.PRESENCE_READ in viewer.permissions or event.agent_id == viewer.agent_id
        case "notification":
            allowed = event.agent_id == viewer.agent_id
    return "show" if allowed else "nothing"
