"""The one catalogue: every message once, with its subject, stream, publishers and consumers.

Subjects, topology, NATS permissions, AsyncAPI, JSON Schemas and the subject table of the docs are derived from it;
a subject that is built by hand anywhere else is a defect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from relevo.contracts import (
    accounts,
    assignment,
    automation,
    conversation,
    dead,
    erasure,
    identity,
    inbound,
    ingest,
    metrics,
    notification,
    presence,
    streams,
)
from relevo.contracts.base import Model
from relevo.contracts.streams import STREAMS, Stream

CORE = ("identity", "ingest", "conversation", "presence", "assignment", "automation", "reporting")
EDGE = ("channels", "realtime", "notification")
SERVICES: tuple[str, ...] = CORE + EDGE


@dataclass(frozen=True, slots=True)
class Message:
    """One type of message; ``name`` is its CloudEvents type, with the major version.

    ``token`` fills the last token of the subject; ``tokens`` computes the tokens that depend on the body. ``any
    service`` stands for every one of SERVICES but the publishers.
    """

    name: str
    model: type[Model]
    stream: Stream
    token: str
    publishers: tuple[str, ...]
    consumers: tuple[str, ...]
    tokens: Callable[[Any], Mapping[str, str]] | None = field(default=None, compare=False)

    @property
    def description(self) -> str:
        """The first line of the model's docstring."""
        return (self.model.__doc__ or "").strip().splitlines()[0]

    def values(self, data: Model, *, account: str, entity: str, sender: str) -> dict[str, str]:
        """The values of the subject's tokens for this body."""
        last = self.stream.fields()[-1]
        values = {"account": account, "entity": entity, "sender": sender, last: self.token}
        if self.tokens:
            values.update(self.tokens(data))
        return values


def _snake(model: type[Model], drop: str = "") -> str:
    name = model.__name__.removeprefix(drop)
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def _event(service: str, model: type[Model], *consumers: str) -> Message:
    stream = streams.BY_NAME[f"EVT_{service.upper()}"]
    token = _snake(model)
    others = tuple(s for s in SERVICES if s != service) if consumers == ("*",) else consumers
    return Message(f"relevo.{service}.{token}.v1", model, stream, token, (service,), others)


def _command(service: str, model: type[Model], *senders: str) -> Message:
    stream = streams.BY_NAME[f"CMD_{service.upper()}"]
    token = _snake(model)
    return Message(f"relevo.{service}.{token}.v1", model, stream, token, senders, (service,))


def _inbound(model: type[Model], token: str) -> Message:
    return Message(f"relevo.inbound.{token}.v1", model, streams.INBOUND, token, ("adapter", "channels"), ("ingest",))


HOLDERS: tuple[str, ...] = (
    "ingest",
    "conversation",
    "assignment",
    "automation",
    "reporting",
    "channels",
    "realtime",
    "notification",
)
"""The services that are told anything personal of contacts, and so forget whom they are told to (contracts.personal)."""


def _erasure(model: type[Model], token: str, senders: tuple[str, ...], consumers: tuple[str, ...]) -> Message:
    return Message(f"relevo.erasure.{token}.v1", model, streams.CMD_ERASURE, token, senders, consumers)


def _accounts(model: type[Model], token: str, senders: tuple[str, ...], consumers: tuple[str, ...]) -> Message:
    return Message(f"relevo.accounts.{token}.v1", model, streams.CMD_ACCOUNTS, token, senders, consumers)


_BUT_IDENTITY = tuple(service for service in SERVICES if service != "identity")
_OTHERS = tuple(service for service in HOLDERS if service != "conversation")
_STORY = ("assignment", "automation", "reporting", "realtime", "notification")
_TOLD = ("automation", "reporting", "realtime")

MESSAGES: tuple[Message, ...] = (
    _inbound(inbound.InboundMessage, "message"),
    _inbound(inbound.InboundStatus, "status"),
    _event("ingest", ingest.MessageReceived, "conversation"),
    _event("ingest", ingest.StatusReceived, "conversation"),
    _event("ingest", ingest.InboxChanged, "*"),
    _event("ingest", ingest.EventQuarantined, "reporting"),
    _event("conversation", conversation.ContactCreated, "reporting", "automation", "realtime"),
    _event("conversation", conversation.ContactUpdated, "automation", "realtime"),
    _event("conversation", conversation.ContactDeleted, "automation", "realtime"),
    _event("conversation", conversation.ContactErased, *_STORY),
    _event("conversation", conversation.ContactMerged, "automation", "realtime"),
    _event("conversation", conversation.ContactRestored, "automation", "realtime"),
    _event("conversation", conversation.ContactChanged, *_TOLD),
    _event("conversation", conversation.ConversationOpened, *_STORY),
    # Automation is not told: no rule, no service level and no webhook has anything to do with what is over.
    _event("conversation", conversation.ConversationImported, "assignment", "reporting", "realtime", "notification"),
    _event("conversation", conversation.ConversationReopened, *_STORY),
    _event("conversation", conversation.ConversationResolved, *_STORY),
    _event("conversation", conversation.ConversationArchived, *_STORY),
    _event("conversation", conversation.ConversationUnarchived, *_STORY),
    _event("conversation", conversation.ConversationSnoozed, *_TOLD, "assignment"),
    _event("conversation", conversation.ConversationWoken, *_TOLD, "assignment"),
    _event("conversation", conversation.ConversationMadePending, *_TOLD, "assignment"),
    _event("conversation", conversation.ConversationTakenOver, *_TOLD, "assignment"),
    _event("conversation", conversation.ConversationMarkedSpam, *_TOLD),
    _event("conversation", conversation.ConversationDeleted, *_TOLD),
    _event("conversation", conversation.ConversationMerged, *_TOLD),
    _event("conversation", conversation.ConversationAbsorbed, *_TOLD, "assignment"),
    _event("conversation", conversation.ConversationUnmerged, *_TOLD),
    _event("conversation", conversation.ConversationSplit, *_TOLD, "assignment"),
    _event("conversation", conversation.AttributesChanged, *_TOLD),
    _event("conversation", conversation.PriorityChanged, *_TOLD, "assignment"),
    _event("conversation", conversation.SubjectChanged, *_TOLD),
    _event("conversation", conversation.LabelsChanged, *_STORY),
    _event("conversation", conversation.LabelChanged, *_TOLD),
    _event("conversation", conversation.ParticipantsChanged, *_STORY),
    _event("conversation", conversation.AssigneeChanged, *_STORY),
    _event("conversation", conversation.OwnerChanged, *_STORY),
    _event("conversation", conversation.MessageCreated, *_STORY),
    _event("conversation", conversation.MessageStatusChanged, "reporting", "realtime", "automation"),
    _event("conversation", conversation.MessageEdited, *_TOLD),
    _event("conversation", conversation.MessageDeleted, *_TOLD),
    _event("conversation", conversation.MessageChangeRefused, *_TOLD),
    _event("conversation", conversation.MessageReacted, *_TOLD),
    _event("conversation", conversation.ConversationForwarded, *_TOLD),
    _event("conversation", conversation.SurveySent, *_TOLD),
    _event("conversation", conversation.SurveyAnswered, *_TOLD),
    _event("conversation", conversation.ReminderSet, *_TOLD),
    _event("conversation", conversation.ReminderDue, *_TOLD, "notification"),
    _event("conversation", conversation.ReminderCancelled, *_TOLD),
    _event("conversation", conversation.ConversationReviewed, "automation"),
    _event("assignment", assignment.ConversationAssigned, "conversation", "reporting"),
    _event("assignment", assignment.ConversationUnassigned, "conversation", "reporting"),
    _event("assignment", assignment.ConversationQueued, "conversation", "reporting"),
    _event("assignment", assignment.ConversationOffered, "conversation", "reporting"),
    _event("assignment", assignment.AgentLoadChanged, "presence"),
    _event("presence", presence.StatusChanged, "assignment", "automation", "reporting", "realtime"),
    _event("presence", presence.BreakDue, "realtime"),
    _event("presence", presence.RulesChanged, "assignment"),
    _event("automation", automation.RuleExecuted, "reporting"),
    _event("automation", automation.SlaWarned, "reporting"),
    _event("automation", automation.SlaBreached, "reporting"),
    _event("automation", automation.SlaMet, "reporting"),
    _event("automation", automation.AlertRaised),
    _event("identity", identity.AccountChanged, "*"),
    _event("identity", identity.RoleChanged, "*"),
    _event("identity", identity.AgentChanged, "*"),
    _event("identity", identity.TeamChanged, "*"),
    _event("identity", identity.CalendarChanged, "*"),
    _event("identity", identity.KeyChanged, "*"),
    _event("identity", identity.SigningKeyChanged, "*"),
    _event("identity", identity.SessionRevoked, "*"),
    _event("identity", identity.AccountDeleted),
    _event("notification", notification.NotificationCreated, "realtime"),
    _event("notification", notification.NotificationsRead, "realtime"),
    _command("conversation", conversation.ChangeLabels, "automation"),
    _command("conversation", conversation.SendMessage, "automation", "assignment"),
    _command("conversation", conversation.ResolveConversation, "automation"),
    _command("conversation", conversation.Remind, "automation"),
    _command("conversation", conversation.SetPriority, "automation"),
    _command("conversation", conversation.SetAttributes, "automation"),
    _command("conversation", conversation.SetStatus, "automation"),
    _command("conversation", conversation.AskSurvey, "automation"),
    _command("conversation", conversation.ReviewConversations, "automation"),
    _command("assignment", assignment.Assign, "automation", "conversation"),
    _command("presence", presence.Heartbeat, "realtime"),
    _command("notification", notification.Notify, "identity", "automation", "conversation", "assignment"),
    _erasure(erasure.ErasePerson, "erase_person", ("conversation",), _OTHERS),
    _erasure(erasure.PersonErased, "person_erased", _OTHERS, ("conversation",)),
    _accounts(accounts.DropAccount, "drop_account", ("identity",), _BUT_IDENTITY),
    _accounts(accounts.AccountDropped, "account_dropped", _BUT_IDENTITY, ("identity",)),
    Message(
        "relevo.outbound.message.v1",
        conversation.OutboundMessage,
        streams.OUTBOUND,
        "message",
        ("conversation",),
        ("adapter", "channels"),
        tokens=lambda data: {"inbox": data.inbox_id, "contact": data.recipient_key},
    ),
    Message(
        "relevo.outbound.update.v1",
        conversation.OutboundUpdate,
        streams.OUTBOUND,
        "update",
        ("conversation",),
        ("adapter", "channels"),
        tokens=lambda data: {"inbox": data.inbox_id, "contact": data.recipient_key},
    ),
    Message(
        "relevo.outbound.bot.v1",
        conversation.BotEvent,
        streams.OUTBOUND,
        "bot",
        ("conversation",),
        ("bot",),
        # A bot stands where an inbox does: what it is told reaches no adapter, and it reads no adapter's messages.
        tokens=lambda data: {"inbox": data.bot_id, "contact": data.conversation_id},
    ),
    Message(
        "relevo.metrics.fact.v1",
        metrics.Fact,
        streams.METRICS,
        "fact",
        ("reporting",),
        ("metrics consumer",),
        tokens=lambda data: {"family": "fact", "metric": data.metric},
    ),
    Message(
        "relevo.metrics.rollup.v1",
        metrics.RollupDelta,
        streams.METRICS,
        "rollup",
        ("reporting",),
        ("metrics consumer",),
        tokens=lambda data: {"family": "rollup", "metric": data.metric},
    ),
    Message(
        "relevo.metrics.live.v1",
        metrics.Gauge,
        streams.METRICS,
        "live",
        ("reporting",),
        ("metrics consumer",),
        tokens=lambda data: {"family": "live", "metric": data.gauge},
    ),
    Message(
        "relevo.dead.message.v1",
        dead.DeadLettered,
        streams.DEAD,
        "message",
        SERVICES,
        ("ingest",),
        tokens=lambda data: {"service": data.service, "reason": data.reason},
    ),
)

BY_NAME: Mapping[str, Message] = {message.name: message for message in MESSAGES}
BY_MODEL: Mapping[type[Model], Message] = {message.model: message for message in MESSAGES}
DECODERS: Mapping[str, TypeAdapter[Any]] = {message.name: TypeAdapter(message.model) for message in MESSAGES}


class UnknownType(ValueError):
    """A message whose type the catalogue does not have."""


def decode(message_type: str, body: bytes) -> Any:
    """The body as its model.

    Raises UnknownType, or pydantic's ValidationError naming the fields at fault.
    """
    decoder = DECODERS.get(message_type)
    if decoder is None:
        raise UnknownType(f"{message_type!r} is not in the catalogue; is this service older than the publisher?")
    return decoder.validate_json(body)


@dataclass(frozen=True, slots=True)
class Durable:
    """A server-side durable consumer for unordered work, read with acknowledgements."""

    stream: Stream
    name: str
    service: str
    ack_wait_seconds: int = 30
    max_deliver: int = 20
    max_ack_pending: int = 256


DURABLES: tuple[Durable, ...] = (
    Durable(streams.OUTBOUND, "channels", "channels"),
    Durable(streams.DEAD, "ingest", "ingest"),
)


def published_by(service: str) -> dict[Stream, str]:
    """The streams a service writes, each with the pattern of subjects it may publish there, as narrow as it can be."""
    found: dict[Stream, str] = {}
    for stream in STREAMS:
        sent = [message for message in MESSAGES if message.stream is stream and service in message.publishers]
        if not sent:
            continue
        fixed = {"sender": service} if stream.name.startswith("CMD_") else {}
        if stream is streams.DEAD:
            fixed = {"service": service}
        elif fixed and len(sent) == 1:  # whoever may say one thing, may not say the others of that stream
            fixed["command"] = sent[0].token
        found[stream] = stream.published(**fixed)
    return found


def read_by(service: str) -> dict[Stream, tuple[Message, ...]]:
    """The partitioned streams that a service reads in order, with the messages it wants of each."""
    found: dict[Stream, list[Message]] = {}
    for message in MESSAGES:
        if service in message.consumers and message.stream.partitions:
            found.setdefault(message.stream, []).append(message)
    return {stream: tuple(messages) for stream, messages in found.items()}


def reader_filter(service: str, stream: Stream, partition: int) -> str:
    """The one filter of a service's reader: narrowed to the event when the service wants only one type."""
    wanted = read_by(service)[stream]
    fixed = {stream.fields()[-1]: wanted[0].token} if len(wanted) == 1 else {}
    return stream.stored(partition, **fixed)


def lane_filter(service: str, stream: Stream, partition: int) -> str:
    """The stored subjects that a service alone publishes in one partition: a lane of its relay."""
    fixed = {}
    if stream.name.startswith("CMD_"):
        fixed = {"sender": service}
    elif stream is streams.DEAD:
        fixed = {"service": service}
    return stream.stored(partition, **fixed)
