"""One message of a batch, as handlers get it."""

from datetime import UTC, datetime
from typing import Any, Final, Protocol

from relevo.contracts.base import Model
from relevo.contracts.catalogue import BY_NAME, Message, decode
from relevo.contracts.envelope import AGAIN, MESSAGE_ID, Envelope
from relevo.contracts.streams import STREAMS, Stream


def _place(stream: Stream) -> tuple[int, int]:
    """Which token of a stored subject is the account, and how many there are."""
    place = stream.tokens.index("{account}")
    partitioned = 1 if stream.partitions else 0
    return place + (partitioned if stream.partition_at <= place else 0), len(stream.tokens) + partitioned


_PLACES: Final = {stream: _place(stream) for stream in STREAMS}


class Delivered(Protocol):
    """A message of the broker, or a row of a log that was one."""

    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def data(self) -> bytes: ...


class Received:
    """One message of a batch. ``envelope`` and ``data`` are decoded at first access.

    ``previous`` is the sequence that the position must have for it, read after ``rewinds`` of them. A ``doubtful`` one may
    have been handled before, at another place of the stream.
    """

    __slots__ = (
        "_data",
        "_envelope",
        "body",
        "doubtful",
        "headers",
        "message_id",
        "partition",
        "previous",
        "rewinds",
        "seq",
        "stream",
        "subject",
        "time",
        "type",
    )

    def __init__(  # noqa: PLR0917  (made once a message, by one caller)
        self, stream: Stream, partition: int, msg: Delivered, seq: int, previous: int, nanoseconds: int
    ) -> None:
        headers = msg.headers
        self.stream = stream
        self.partition = partition
        self.subject = msg.subject
        self.body: bytes = msg.data
        self.headers = headers
        self.seq = seq
        self.previous = previous
        self.time = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
        self.type = headers.get("ce-type", "")
        self.message_id = headers.get(MESSAGE_ID, "") or f"@{nanoseconds // 1000}"
        self.doubtful = AGAIN in headers
        self.rewinds = 0
        self._envelope: Envelope | None = None
        self._data: Any = None

    @property
    def account(self) -> str:
        """Whose it is, as the subject says, which a sender's permissions bind; "" for a subject of another form."""
        tokens = self.subject.split(".")
        place, many = _PLACES[self.stream]
        return tokens[place] if len(tokens) == many else ""

    @property
    def recorded(self) -> datetime:
        """When its sender recorded it, by the sender's clock; never later than the stream stored it."""
        try:
            recorded = datetime.fromisoformat(self.headers["relevo-recorded"])
        except (KeyError, ValueError):
            return self.time
        return min(recorded, self.time) if recorded.tzinfo else self.time

    @property
    def envelope(self) -> Envelope:
        """Who, what, when, why. Raises MalformedEnvelope."""
        if self._envelope is None:
            self._envelope = Envelope.from_headers(self.headers)
        return self._envelope

    @property
    def readable(self) -> bool:
        """True; raises MalformedEnvelope for a message that has no readable envelope."""
        return self.envelope is not None

    @property
    def data(self) -> Any:
        """The body as its model. Raises UnknownType or ValidationError."""
        if self._data is None:
            self._data = decode(self.type, self.body)
        return self._data

    @property
    def message(self) -> Message | None:
        """The catalogue's entry of this type, None when it has none."""
        return BY_NAME.get(self.type)

    def is_a(self, model: type[Model]) -> bool:
        """Whether the body is of this model, without decoding it."""
        message = BY_NAME.get(self.type)
        return message is not None and message.model is model
