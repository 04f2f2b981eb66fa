"""Rules: what they are, what of them fires on an event, and the steps that follow. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final, Literal
from uuid import UUID, uuid5

from relevo.automation.domain.actions import ACTIONS, Action, Pause, Step, steps
from relevo.automation.domain.index import Index, Key, Keys, Kind, best, keys_of
from relevo.automation.domain.triggers import FIELDS, Occurrence, Trigger
from relevo.kernel.conditions import Condition, Predicate, compile_condition, parse

_NAMESPACE: Final = UUID("7d0f3b0e-52a5-5d43-8a1c-0d6f1c2f4b11")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready to be judged. `inbox_ids` empty means every inbox; `on_automated` that it also heeds what no person wrote."""

    id: str
    version: int
    name: str
    trigger: Trigger
    condition: Condition = field(compare=False)
    holds: Predicate = field(compare=False)
    actions: tuple[Action, ...] = ()
    inbox_ids: frozenset[str] = frozenset()
    on_automated: bool = False
    keys: Keys | None = field(default=None, compare=False)

    @property
    def actor(self) -> str:
        """Who its commands, and what comes of them, are said to be from."""
        return f"rule:{self.id}"


def compile_rule(
    *,
    id: str,  # noqa: A002  (it is the rule's id)
    version: int,
    name: str,
    trigger: Trigger,
    conditions: object,
    actions: object,
    inbox_ids: Iterable[str] = (),
    on_automated: bool = False,
) -> Rule:
    """A rule from its stored form (parsed JSON), compiled once.

    Raises ConditionError for conditions and pydantic's ValidationError for actions that cannot be used.
    """
    condition = parse(conditions, FIELDS[trigger])
    inboxes = frozenset(inbox_ids)
    scope = frozenset(Key(Kind.VALUE, "conversation.inbox_id", inbox_id) for inbox_id in inboxes) or None
    return Rule(
        id=id,
        version=version,
        name=name,
        trigger=trigger,
        condition=condition,
        holds=compile_condition(condition),
        actions=ACTIONS.validate_python(actions),
        inbox_ids=inboxes,
        on_automated=on_automated,
        keys=best((keys_of(condition), scope)),
    )


class RuleSet:
    """An account's enabled rules in their order, indexed by trigger and by what they need, as of one version of the set."""

    __slots__ = ("_by_trigger", "version")

    def __init__(self, version: int, rules: Sequence[Rule]) -> None:
        self.version = version
        found: dict[Trigger, list[tuple[int, Rule]]] = defaultdict(list)
        for place, rule in enumerate(rules):
            found[rule.trigger].append((place, rule))
        self._by_trigger: Mapping[Trigger, Index[tuple[int, Rule]]] = {
            trigger: Index(((place, rule), rule.keys) for place, rule in group) for trigger, group in found.items()
        }

    def listens(self, triggers: frozenset[Trigger]) -> bool:
        """Whether any rule waits for one of these triggers."""
        return not triggers.isdisjoint(self._by_trigger)

    def candidates(self, event: Occurrence) -> list[Rule]:
        """The rules that can match this event, in order."""
        found: list[tuple[int, Rule]] = []
        for trigger in event.triggers:
            if index := self._by_trigger.get(trigger):
                found += index.candidates(event.facts)
        if len(event.triggers) > 1:
            found.sort(key=itemgetter(0))
        return [rule for _, rule in found]


Outcome = Literal["ordered", "waiting", "moot", "already_waiting", "depth_limit", "rate_limit"]
"""`waiting`: some of it waits, `moot`: that will not be done any more; the others are held back as a whole."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A rule that matched an event. `steps` are what its actions come to, in order; none when a guard held it back."""

    rule: Rule
    event: Occurrence
    outcome: Outcome
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        """The same for the same rule, version and event: a replay is recognised by it."""
        return _derived(self.rule, self.event, "execution")


def _derived(rule: Rule, event: Occurrence, part: str) -> str:
    return str(uuid5(_NAMESPACE, f"{rule.id}/{rule.version}/{event.event_id}/{part}"))


def command_id(execution_id: str, number: int) -> str:
    """The envelope id of the command of this number (from 0) of an execution: a replay orders nothing twice."""
    return str(uuid5(_NAMESPACE, f"{execution_id}/{number}"))


def evaluate(rules: RuleSet, event: Occurrence, *, depth_limit: int) -> list[Execution]:
    """The rules that match this event, in their order, with the commands that they give.

    All are judged over the event's snapshot, so that none sees the effect of another. A rule never fires on what it
    did itself, nor on automatic messages unless told to; from `depth_limit` automatic steps on, what matches is
    recorded and held back, so that rules which feed each other end.
    """
    executions = []
    for rule in rules.candidates(event):
        if out_of_scope(rule, event) is not None or not rule.holds(event.facts):
            continue
        if event.depth >= depth_limit:
            executions.append(Execution(rule, event, "depth_limit", ()))
        else:
            executions.append(ordered(rule, event))
    return executions


FIRED: Final[frozenset[Outcome]] = frozenset({"ordered", "waiting", "moot"})
"""The outcomes of which something was done, or would have been."""
_HOUR: Final = timedelta(hours=1)


def within_rate(
    executions: Sequence[Execution], fired: Mapping[tuple[str, str], Sequence[datetime]], *, hourly_limit: int
) -> list[Execution]:
    """The same executions in their order, but a rule that fired `hourly_limit` times in a conversation is held back there.

    Counted is what fired in the hour up to the event, by the events' own times: what is read late is not too much at once.
    ``fired``: when rules fired before, by rule and conversation. What happens to no conversation is not limited.
    """
    times = {pair: list(moments) for pair, moments in fired.items()}
    found = []
    for one in executions:
        of, at = one.event.subject.conversation_id, one.event.at
        if of is not None and one.outcome in FIRED:
            mine = times.setdefault((one.rule.id, of), [])
            if sum(at - _HOUR < moment <= at for moment in mine) >= hourly_limit:
                found.append(replace(one, outcome="rate_limit", steps=()))
                continue
            mine.append(at)
        found.append(one)
    return found


OutOfScope = Literal["other_trigger", "other_inbox", "automated", "own_effect"]


def out_of_scope(rule: Rule, event: Occurrence) -> OutOfScope | None:
    """Why a rule does not even look at an event; None when its conditions decide."""
    if rule.trigger not in event.triggers or event.of_rule not in {None, rule.id}:
        return "other_trigger"
    if rule.inbox_ids and event.subject.inbox_id not in rule.inbox_ids:
        return "other_inbox"
    if event.automated and not rule.on_automated:
        return "automated"
    return "own_effect" if event.actor == rule.actor else None


def ordered(rule: Rule, event: Occurrence) -> Execution:
    """What a rule whose conditions hold does about an event."""
    given = steps(rule.actions, event.subject, rule_name=rule.name, key=_derived(rule, event, "execution"))
    return Execution(rule, event, "waiting" if any(isinstance(one, Pause) for one in given) else "ordered", given)
