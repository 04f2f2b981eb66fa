"""Rules: what they are, what of them fires on an event, and the commands that follow. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from relevo.automation.domain.index import Index, Key, Keys, Kind, best, keys_of
from relevo.automation.domain.triggers import FIELDS, Occurrence, Trigger
from relevo.contracts.assignment import Assign
from relevo.contracts.base import Id, Model
from relevo.contracts.conversation import ChangeLabels, Label, Remind, ResolveConversation, SendMessage, Text
from relevo.contracts.snapshots import ConversationSnapshot, Unless
from relevo.kernel.conditions import Predicate, compile_condition, parse

MAX_ACTIONS: Final = 20
_NAMESPACE: Final = UUID("7d0f3b0e-52a5-5d43-8a1c-0d6f1c2f4b11")

Labels = Annotated[tuple[Label, ...], Field(min_length=1, max_length=50)]


class _Action(Model):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AddLabels(_Action):
    type: Literal["add_labels"]
    labels: Labels


class RemoveLabels(_Action):
    type: Literal["remove_labels"]
    labels: Labels


class AssignAgent(_Action):
    type: Literal["assign_agent"]
    agent_id: Id


class AssignTeam(_Action):
    type: Literal["assign_team"]
    team_id: Id


class Reply(_Action):
    """A message to the customer."""

    type: Literal["send_message"]
    text: Annotated[Text, StringConstraints(strip_whitespace=True)]


class AddNote(_Action):
    """A private note to the team."""

    type: Literal["add_note"]
    text: Annotated[Text, StringConstraints(strip_whitespace=True)]


class RemindThem(_Action):
    """A reminder to the assignee or the team in so many hours or days, unless somebody answers first."""

    type: Literal["remind"]
    hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    days: Annotated[int | None, Field(ge=1, le=365)] = None
    business_hours: bool = False
    unless: Unless = "agent_answers"
    to: Literal["assignee", "team"] = "assignee"
    text: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""

    @model_validator(mode="after")
    def _one_delay(self) -> "RemindThem":
        if (self.hours is None) == (self.days is None):
            es, en = "Indica «hours» o «days», uno de los dos.", "Give `hours` or `days`, one of them."
            raise PydanticCustomError("one_delay", "{en}", {"es": es, "en": en})
        return self


class Resolve(_Action):
    type: Literal["resolve"]


Action = Annotated[
    AddLabels | RemoveLabels | AssignAgent | AssignTeam | Reply | AddNote | RemindThem | Resolve, Discriminator("type")
]
Actions = Annotated[tuple[Action, ...], Field(min_length=1, max_length=MAX_ACTIONS)]
ACTIONS: Final[TypeAdapter[tuple[Action, ...]]] = TypeAdapter(Actions)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready to be judged. `inbox_ids` empty means every inbox; `on_automated` that it also heeds what no person wrote."""

    id: str
    version: int
    name: str
    trigger: Trigger
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
        found: dict[Trigger, list[Rule]] = defaultdict(list)
        for rule in rules:
            found[rule.trigger].append(rule)
        self._by_trigger: Mapping[Trigger, Index[Rule]] = {
            trigger: Index((rule, rule.keys) for rule in group) for trigger, group in found.items()
        }

    def listens(self, triggers: frozenset[Trigger]) -> bool:
        """Whether any rule waits for one of these triggers."""
        return not triggers.isdisjoint(self._by_trigger)

    def candidates(self, event: Occurrence) -> list[Rule]:
        """The rules that can match this event, in order."""
        index = self._by_trigger.get(event.trigger)
        return index.candidates(event.facts) if index else []


Outcome = Literal["ordered", "depth_limit"]


@dataclass(frozen=True, slots=True)
class Execution:
    """A rule that matched an event. `commands` are its actions' in order; none when the loop guard held it back."""

    rule: Rule
    event: Occurrence
    outcome: Outcome
    commands: tuple[Model, ...]

    @property
    def id(self) -> str:
        """The same for the same rule, version and event: a replay is recognised by it."""
        return self._derived("execution")

    def command_id(self, number: int) -> str:
        """The envelope id of the command of this number (from 0): a replay orders nothing twice."""
        return self._derived(str(number))

    def _derived(self, part: str) -> str:
        return str(uuid5(_NAMESPACE, f"{self.rule.id}/{self.rule.version}/{self.event.event_id}/{part}"))


def evaluate(rules: RuleSet, event: Occurrence, *, depth_limit: int) -> list[Execution]:
    """The rules that match this event, in their order, with the commands that they give.

    All are judged over the event's snapshot, so that none sees the effect of another. A rule never fires on what it
    did itself, nor on automatic messages unless told to; from `depth_limit` automatic steps on, what matches is
    recorded and held back, so that rules which feed each other end.
    """
    executions = []
    inbox_id = event.conversation.inbox_id
    for rule in rules.candidates(event):
        if (
            (rule.inbox_ids and inbox_id not in rule.inbox_ids)
            or (event.automated and not rule.on_automated)
            or event.actor == rule.actor
            or not rule.holds(event.facts)
        ):
            continue
        if event.depth >= depth_limit:
            executions.append(Execution(rule, event, "depth_limit", ()))
        else:
            commands = tuple(_command(action, event.conversation) for action in rule.actions)
            executions.append(Execution(rule, event, "ordered", commands))
    return executions


def _command(action: Any, conversation: ConversationSnapshot) -> Model:
    conversation_id, seen = conversation.id, conversation.assignment_version
    match action:
        case AddLabels():
            return ChangeLabels(conversation_id=conversation_id, add=action.labels)
        case RemoveLabels():
            return ChangeLabels(conversation_id=conversation_id, remove=action.labels)
        case AssignAgent():
            return Assign(conversation_id=conversation_id, assignee_id=action.agent_id, seen_version=seen)
        case AssignTeam():
            return Assign(conversation_id=conversation_id, team_id=action.team_id, seen_version=seen)
        case Reply():
            return SendMessage(conversation_id=conversation_id, text=action.text)
        case AddNote():
            return SendMessage(conversation_id=conversation_id, text=action.text, private=True)
        case RemindThem():
            return Remind(
                conversation_id=conversation_id,
                hours=action.hours,
                days=action.days,
                business_hours=action.business_hours,
                unless=action.unless,
                to=action.to,
                text=action.text,
            )
        case Resolve():
            return ResolveConversation(conversation_id=conversation_id)
        case _:
            raise TypeError(f"no command for {action!r}")
