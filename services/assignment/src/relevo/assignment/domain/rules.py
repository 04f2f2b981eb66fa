"""Which of a policy's rules a conversation goes by: the first whose conditions hold.

Conditions are judged on what the journal's own inputs say, so the same journal and policy give the same rule. It is looked
for again when something becomes otherwise that rules look at: labels, the contact's owner, the priority, the policy, or that
somebody hands the conversation to a team; not when a rule or time has moved it. What else is known is as of then.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from relevo.assignment.domain.inputs import PRIORITIES
from relevo.assignment.domain.policy import Policy
from relevo.kernel.conditions import Facts, FieldType, Predicate, compile_condition, parse

if TYPE_CHECKING:
    from relevo.assignment.domain.held import Held

TEAM: Final = "conversation.team_id"
OPEN_HOURS: Final = "business_hours.open"
FIELDS: Final[Mapping[str, FieldType]] = {
    "conversation.inbox_id": FieldType.KEYWORD,
    "conversation.channel": FieldType.KEYWORD,
    TEAM: FieldType.KEYWORD,
    "conversation.priority": FieldType.KEYWORD,
    "conversation.labels": FieldType.LIST,
    "conversation.language": FieldType.KEYWORD,
    "contact.labels": FieldType.LIST,
    "contact.language": FieldType.KEYWORD,
    "contact.owner_id": FieldType.KEYWORD,
    "contact.owner_team_id": FieldType.KEYWORD,
    OPEN_HOURS: FieldType.BOOLEAN,
}
"""What conditions may look at. `conversation.priority` is `medium` where none was given; `business_hours.open` is of the
moment at which it was opened, by the calendar that counted there then."""


class Rules:
    """A policy's rules, compiled once."""

    def __init__(self, policy: Policy) -> None:
        """Raises ConditionError; a policy is checked before it is taken."""
        self._rules: list[tuple[str, Predicate]] = [
            (one.name, compile_condition(parse(one.when, FIELDS))) for one in policy.rules
        ]

    def of(self, held: "Held") -> str:
        """The name of the rule; empty: none fits."""
        if not self._rules:
            return ""
        facts = Facts(_facts(held))
        return next((name for name, holds in self._rules if holds(facts)), "")


def _facts(held: "Held") -> Mapping[str, Any]:
    return {
        TEAM: held.team_id,
        **held.facts,
        "conversation.inbox_id": held.inbox_id,
        "conversation.channel": held.channel,
        "conversation.priority": PRIORITIES[held.rank],
    }
