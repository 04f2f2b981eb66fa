"""What rules and macros do, and the steps that it comes to for one conversation. Pure.

An action is what somebody wrote down; a step is what follows of it for one event: a command on the bus, a post to a webhook,
or a pause. An action that has nobody to act for there (the owner of a contact who has none) comes to no step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from relevo.automation.domain.triggers import Subject
from relevo.contracts.assignment import Assign
from relevo.contracts.base import Id, Model
from relevo.contracts.catalogue import BY_MODEL, BY_NAME
from relevo.contracts.conversation import (
    AskSurvey,
    ChangeLabels,
    Label,
    Mention,
    Remind,
    ResolveConversation,
    SendMessage,
    SetAttributes,
    SetPriority,
    SetStatus,
    Text,
)
from relevo.contracts.notification import Notify
from relevo.contracts.snapshots import AttributeValue, Priority, Unless

MAX_ACTIONS: Final = 20
MAIL_KIND: Final = "rule_mail"
"""The kind of notification that always is an e-mail, and nothing else."""

Labels = Annotated[tuple[Label, ...], Field(min_length=1, max_length=50)]
Words = Annotated[Text, StringConstraints(strip_whitespace=True)]
WaitUnless = Literal["customer_answers", "agent_answers", "anyone_answers", "assigned", "status_changes", "nothing"]
"""What makes a wait moot. With the first three a resolution does too; whatever it says, a deletion and a merge do."""


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


class AssignLastResponder(_Action):
    """To the agent who wrote to the customer last."""

    type: Literal["assign_last_responder"]


class AssignOwner(_Action):
    """To whoever owns the contact: an agent or a team."""

    type: Literal["assign_owner"]


class Unassign(_Action):
    """To nobody: no agent, no team."""

    type: Literal["unassign"]


class Prioritise(_Action):
    type: Literal["set_priority"]
    priority: Priority | None


class GiveAttributes(_Action):
    """Values of the conversation's custom attributes by key; null takes one away."""

    type: Literal["set_attributes"]
    attributes: Annotated[dict[str, AttributeValue | None], Field(min_length=1, max_length=100)]


class Bring(_Action):
    """To a status: `open` reopens, wakes, or takes from the bot; `pending` gives to the bot."""

    type: Literal["set_status"]
    status: Literal["open", "pending", "resolved", "archived"]


class Snooze(_Action):
    """For so many hours or days; without either until the customer writes."""

    type: Literal["snooze"]
    hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    days: Annotated[int | None, Field(ge=1, le=365)] = None
    business_hours: bool = False

    @model_validator(mode="after")
    def _one_delay(self) -> "Snooze":
        if self.hours is not None and self.days is not None:
            raise _one_of("hours", "days")
        return self


class Reply(_Action):
    """A message to the customer."""

    type: Literal["send_message"]
    text: Words


class AddNote(_Action):
    """A private note to the team; whom it mentions takes part from then on, and is told."""

    type: Literal["add_note"]
    text: Words
    mentions: Annotated[tuple[Mention, ...], Field(max_length=50)] = ()


class MailTeam(_Action):
    """An e-mail to everybody of a team who may see the conversation, whatever they chose to be told of."""

    type: Literal["email_team"]
    team_id: Id
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Post(_Action):
    """What happened, posted to one of the account's webhooks, signed and retried as they all are."""

    type: Literal["webhook"]
    endpoint_id: Id


class Ask(_Action):
    """Ask how they were served, once the conversation is resolved."""

    type: Literal["survey"]


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
            raise _one_of("hours", "days")
        return self


class Wait(_Action):
    """What stands behind it is done so much later, unless something comes that makes it moot.

    Counted from the event, or from when the last wait was over. Business minutes are those of the calendar that counts there;
    where none does, all minutes count.
    """

    type: Literal["wait"]
    minutes: Annotated[int, Field(ge=1, le=525_600)]
    business_hours: bool = False
    unless: WaitUnless = "nothing"


class Resolve(_Action):
    type: Literal["resolve"]


Action = Annotated[
    AddLabels
    | RemoveLabels
    | AssignAgent
    | AssignTeam
    | AssignLastResponder
    | AssignOwner
    | Unassign
    | Prioritise
    | GiveAttributes
    | Bring
    | Snooze
    | Reply
    | AddNote
    | MailTeam
    | Post
    | Ask
    | RemindThem
    | Wait
    | Resolve,
    Discriminator("type"),
]
Actions = Annotated[tuple[Action, ...], Field(min_length=1, max_length=MAX_ACTIONS)]
ACTIONS: Final[TypeAdapter[tuple[Action, ...]]] = TypeAdapter(Actions)
ANYWHERE: Final = (MailTeam, Post)
"""Actions that need no conversation."""


def _one_of(one: str, other: str) -> PydanticCustomError:
    es, en = f"Indica «{one}» o «{other}», uno de los dos.", f"Give `{one}` or `{other}`, one of them."
    return PydanticCustomError("one_delay", "{en}", {"es": es, "en": en})


@dataclass(frozen=True, slots=True)
class Order:
    """A command, of the action with this number (from 0)."""

    number: int
    command: Model


@dataclass(frozen=True, slots=True)
class PostStep:
    """A post to a webhook."""

    number: int
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """What follows waits."""

    number: int
    wait: Wait

    def lasts(self) -> timedelta:
        """How long, where every minute counts."""
        return timedelta(minutes=self.wait.minutes)


Step = Order | PostStep | Pause


def steps(actions: Sequence[Action], subject: Subject, *, rule_name: str, key: str) -> tuple[Step, ...]:
    """What actions come to, in their order. ``key`` tells this execution from every other: nobody is mailed twice for it."""
    found: list[Step] = []
    for number, action in enumerate(actions):
        match action:
            case Wait():
                found.append(Pause(number, action))
            case Post():
                found.append(PostStep(number, action.endpoint_id))
            case MailTeam():
                found.append(Order(number, _mail(action, subject, rule_name, f"{key}:{number}")))
            case _ if subject.conversation_id is not None:
                command = _command(action, subject.conversation_id, subject)
                if command is not None:
                    found.append(Order(number, command))
    while found and isinstance(found[-1], Pause):
        found.pop()  # nothing follows it
    return tuple(found)


def _mail(action: MailTeam, subject: Subject, rule_name: str, key: str) -> Notify:
    if subject.conversation_id is None:
        template, data = "rule_mail_contact", {"rule": rule_name, "words": action.text}
    else:
        template, data = "rule_mail", {"rule": rule_name, "words": action.text, "number": str(subject.number or "—")}
    return Notify(
        dedup_key=f"rule:{key}",
        kind=MAIL_KIND,
        team_id=action.team_id,
        template=template,
        data=data,
        conversation_id=subject.conversation_id,
    )


def _command(action: Action, of: str, subject: Subject) -> Model | None:
    seen = subject.assignment_version
    match action:
        case AddLabels():
            return ChangeLabels(conversation_id=of, add=action.labels)
        case RemoveLabels():
            return ChangeLabels(conversation_id=of, remove=action.labels)
        case AssignAgent():
            return Assign(conversation_id=of, assignee_id=action.agent_id, seen_version=seen)
        case AssignTeam():
            return Assign(conversation_id=of, team_id=action.team_id, seen_version=seen)
        case AssignLastResponder() if subject.last_responder_id:
            return Assign(conversation_id=of, assignee_id=subject.last_responder_id, seen_version=seen)
        case AssignOwner() if subject.owner_id:
            return Assign(conversation_id=of, assignee_id=subject.owner_id, seen_version=seen)
        case AssignOwner() if subject.owner_team_id:
            return Assign(conversation_id=of, team_id=subject.owner_team_id, seen_version=seen)
        case AssignLastResponder() | AssignOwner():
            return None
        case Unassign():
            return Assign(conversation_id=of, seen_version=seen)
        case Prioritise():
            return SetPriority(conversation_id=of, priority=action.priority)
        case GiveAttributes():
            return SetAttributes(conversation_id=of, attributes=action.attributes)
        case Bring():
            return SetStatus(conversation_id=of, to=action.status)
        case Snooze():
            return SetStatus(
                conversation_id=of,
                to="snoozed",
                hours=action.hours,
                days=action.days,
                business_hours=action.business_hours,
            )
        case Reply():
            return SendMessage(conversation_id=of, text=action.text)
        case AddNote():
            return SendMessage(conversation_id=of, text=action.text, private=True, mentions=action.mentions)
        case Ask():
            return AskSurvey(conversation_id=of)
        case RemindThem():
            return Remind(
                conversation_id=of,
                hours=action.hours,
                days=action.days,
                business_hours=action.business_hours,
                unless=action.unless,
                to=action.to,
                text=action.text,
            )
        case Resolve():
            return ResolveConversation(conversation_id=of)
        case _:
            raise TypeError(f"no command for {action!r}")


def dumped(given: Sequence[Step]) -> list[dict[str, Any]]:
    """Steps as they are kept while a wait lasts."""
    found: list[dict[str, Any]] = []
    for step in given:
        match step:
            case Order():
                body = step.command.model_dump(mode="json")
                found.append({"n": step.number, "type": BY_MODEL[type(step.command)].name, "data": body})
            case PostStep():
                found.append({"n": step.number, "endpoint": step.endpoint_id})
            case Pause():
                found.append({"n": step.number, "wait": step.wait.model_dump(mode="json")})
    return found


def loaded(given: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """The steps that were kept."""
    found: list[Step] = []
    for one in given:
        if "wait" in one:
            found.append(Pause(one["n"], Wait.model_validate(one["wait"])))
        elif "endpoint" in one:
            found.append(PostStep(one["n"], one["endpoint"]))
        else:
            found.append(Order(one["n"], BY_NAME[one["type"]].model.model_validate(one["data"])))
    return tuple(found)
