"""The streams of the bus, and the subjects that each one stores.

A stream's ``pattern`` names the tokens of the subject as it is published. A partitioned stream stores the subject
with the partition inserted as its ``partition_at`` token; the server computes it from the tokens ``partition_by``.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta

from relevo.contracts.partition import partition

PARTITIONS = 16
"""Partitions of a busy stream, and leases of every service. Grows only by doubling (docs/adr)."""

QUIET_PARTITIONS = 4
"""Partitions of a stream with little traffic."""

_TOKEN = re.compile(r"[^\s.*>\x00-\x1f]+\Z")
_SUBJECT = re.compile(r"(?:[^\s.*>\x00-\x1f]+\.)*[^\s.*>\x00-\x1f]+\Z")
_PLACE = re.compile(r"^\{(\w+)\}$")


class BadToken(ValueError):
    """A value that cannot stand as one token of a subject."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One JetStream stream. ``partitions`` 0: subjects are stored as published, in one lane.

    ``share`` is its part in a hundred of the room that all streams have together, after what the usual traffic puts into
    each (measured: docs/adr/0016); METRICS gets a little more, since it keeps longest. ``max_age`` is the longest that it keeps; an operator may choose less.
    """

    name: str
    pattern: str
    description: str
    partitions: int = 0
    partition_at: int = 2
    partition_by: tuple[str, ...] = ()
    max_age: timedelta = timedelta(days=7)
    share: int = 1
    tokens: tuple[str, ...] = field(init=False, default=(), compare=False)
    _fields: tuple[str, ...] = field(init=False, default=(), compare=False, repr=False)
    _form: str = field(init=False, default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        tokens = tuple(self.pattern.split("."))
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "_fields", tuple(match[1] for token in tokens if (match := _PLACE.match(token))))
        object.__setattr__(self, "_form", ".".join("%s" if _PLACE.match(token) else token for token in tokens))

    def fields(self) -> tuple[str, ...]:
        """The names of the tokens that a publisher fills."""
        return self._fields

    def subject(self, **values: str) -> str:
        """The subject to publish on. Raises BadToken when a value is no single token."""
        given = tuple([values[name] for name in self._fields])
        subject = self._form % given
        # One look at the whole; only when it fails, at each.
        if _SUBJECT.match(subject) and subject.count(".") == len(self.tokens) - 1:
            return subject
        name, value = next((n, v) for n, v in zip(self._fields, given, strict=True) if not _TOKEN.match(v))
        raise BadToken(f"{name}={value!r} cannot be a subject token: no spaces, dots, * or >")

    def published(self, **fixed: str) -> str:
        """The subscription pattern over published subjects, ``*`` for every token that is not fixed."""
        return ".".join(fixed.get(m[1], "*") if (m := _PLACE.match(t)) else t for t in self.tokens)

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the stream stores: what is published, and its writers' fences."""
        return self.published(), f"fence.{self.name}.*.*"

    def fence(self, service: str, partition: int | str) -> str:
        """Where the relay of a service says that it now fills a lane; nobody reads it but the broker (docs/adr/0018)."""
        return f"fence.{self.name}.{service}.{partition}"

    def stored(self, partition: int | None = None, **fixed: str) -> str:
        """The pattern over subjects as stored, with the partition where the stream has one."""
        parts = self.published(**fixed).split(".")
        if self.partitions:
            parts.insert(self.partition_at, "*" if partition is None else str(partition))
        return ".".join(parts)

    def account_in(self, subject: str, *, stored: bool = False) -> str:
        """The account of a subject as it was published, or as it is ``stored``; "" for one of another form."""
        tokens = subject.split(".")
        if stored and self.partitions:
            del tokens[self.partition_at : self.partition_at + 1]
        return tokens[self.tokens.index("{account}")] if len(tokens) == len(self.tokens) else ""

    def partition_of(self, **values: str) -> int:
        """Where the server will store a subject with these token values (0 without partitions)."""
        if not self.partitions:
            return 0
        return partition(self.partitions, *(values[name] for name in self.partition_by))

    def transform(self) -> tuple[str, str] | None:
        """The stream's subject transform (source, destination), None without partitions."""
        if not self.partitions:
            return None
        names = self.fields()
        places = ",".join(str(names.index(name) + 1) for name in self.partition_by)
        parts = []
        count = 0
        for token in self.tokens:
            if _PLACE.match(token):
                count += 1
                parts.append(f"{{{{wildcard({count})}}}}")
            else:
                parts.append(token)
        parts.insert(self.partition_at, f"{{{{partition({self.partitions},{places})}}}}")
        return self.published(), ".".join(parts)


INBOUND = Stream(
    "INBOUND",
    "inbound.{account}.{inbox}.{sender}.{kind}",
    "What adapters received from their channels.",
    PARTITIONS,
    partition_at=1,
    partition_by=("account", "inbox", "sender"),
    share=6,
)
OUTBOUND = Stream("OUTBOUND", "outbound.{account}.{inbox}.{contact}.{kind}", "What adapters shall send.", share=5)
METRICS = Stream(
    "METRICS",
    "metrics.{account}.{family}.{metric}",
    "Facts, roll-up deltas and live gauges for consumers.",
    max_age=timedelta(days=90),
    share=32,
)
DEAD = Stream(
    "DEAD",
    "dead.{service}.{account}.{reason}",
    "What a consumer gave up on.",
    max_age=timedelta(days=30),
)


def _events(service: str, partitions: int, description: str, share: int = 1) -> Stream:
    return Stream(
        f"EVT_{service.upper()}",
        f"evt.{service}.{{account}}.{{entity}}.{{event}}",
        description,
        partitions,
        partition_by=("account", "entity"),
        share=share,
    )


def _commands(service: str, partitions: int, share: int = 1, max_age: timedelta = timedelta(days=7)) -> Stream:
    return Stream(
        f"CMD_{service.upper()}",
        f"cmd.{service}.{{sender}}.{{account}}.{{entity}}.{{command}}",
        f"Requests to {service}, with the asking service in the subject.",
        partitions,
        partition_by=("account", "entity"),
        share=share,
        max_age=max_age,
    )


EVT_INGEST = _events("ingest", PARTITIONS, "Accepted inbound events, inboxes, quarantine.", 10)
EVT_CONVERSATION = _events("conversation", PARTITIONS, "The one ordered story of every conversation and contact.", 30)
EVT_ASSIGNMENT = _events("assignment", PARTITIONS, "Who holds a conversation, and why.", 2)
EVT_PRESENCE = _events("presence", QUIET_PARTITIONS, "Agents' status changes.")
EVT_AUTOMATION = _events("automation", PARTITIONS, "What rules did.", 3)
EVT_IDENTITY = _events("identity", QUIET_PARTITIONS, "The directory: accounts, agents, roles, teams, keys.")
EVT_NOTIFICATION = _events("notification", QUIET_PARTITIONS, "Notifications of the team's own people.", 2)
CMD_CONVERSATION = _commands("conversation", PARTITIONS, 2)
CMD_ASSIGNMENT = _commands("assignment", PARTITIONS)
CMD_PRESENCE = _commands("presence", QUIET_PARTITIONS)
# Links that are good once travel here and nowhere else.
CMD_NOTIFICATION = _commands("notification", QUIET_PARTITIONS, max_age=timedelta(hours=1))
CMD_ERASURE = Stream(
    "CMD_ERASURE",
    "cmd.erasure.{sender}.{account}.{entity}.{command}",
    "Whom everybody forgets, and who has; holds ids only.",
    QUIET_PARTITIONS,
    partition_by=("account", "entity"),
)

CMD_ACCOUNTS = Stream(
    "CMD_ACCOUNTS",
    "cmd.accounts.{sender}.{account}.{entity}.{command}",
    "Which accounts everybody drops, and who has; of the platform, ids and counts only.",
    1,
    partition_by=("account", "entity"),
)

STREAMS: tuple[Stream, ...] = (
    INBOUND,
    OUTBOUND,
    EVT_INGEST,
    EVT_CONVERSATION,
    EVT_ASSIGNMENT,
    EVT_PRESENCE,
    EVT_AUTOMATION,
    EVT_IDENTITY,
    EVT_NOTIFICATION,
    CMD_CONVERSATION,
    CMD_ASSIGNMENT,
    CMD_PRESENCE,
    CMD_NOTIFICATION,
    CMD_ERASURE,
    CMD_ACCOUNTS,
    METRICS,
    DEAD,
)

BY_NAME = {stream.name: stream for stream in STREAMS}
