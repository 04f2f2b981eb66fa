"""The automation service: what rules did."""

from relevo.contracts.base import Id, Model


class RuleExecuted(Model):
    """A rule matched an event and its actions were ordered, in order. Inbox and channel are the conversation's."""

    rule_id: Id
    rule_version: int
    rule_name: str
    event_id: Id
    event_type: str
    conversation_id: Id
    inbox_id: Id | None = None
    channel: str | None = None
    actions: tuple[str, ...]
