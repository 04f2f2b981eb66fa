"""The automation service: what rules did."""

from relevo.contracts.base import Id, Model


class RuleExecuted(Model):
    """A rule matched an event and its actions were ordered, in order."""

    rule_id: Id
    rule_version: int
    rule_name: str
    event_id: Id
    event_type: str
    conversation_id: Id
    actions: tuple[str, ...]
