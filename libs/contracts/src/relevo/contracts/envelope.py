"""The envelope: CloudEvents 1.0 in the NATS binding's binary mode, with what Relevo adds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

SPEC_VERSION = "1.0"
MESSAGE_ID = "Nats-Msg-Id"
AGAIN = "relevo-again"
"""On a message that is published once more, since the stream lost it: it may have been handled before."""

ERASED = "relevo-erased"
"""On an event that a person was taken out of: the stream holds it no more, its owner's log tells it without them."""


MOST_ANCESTORS = 3


class MalformedEnvelope(ValueError):
    """A message whose headers do not carry what the envelope requires."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who did what to which entity, when and because of what.

    ``time`` is when it occurred, ``recorded`` when its transaction recorded it; both UTC. ``sequence`` numbers
    the events of one entity from 1 without gaps (0: the entity keeps no sequence). ``actor`` is ``agent:ID``,
    ``contact:ID``, ``rule:ID``, ``bot:ID``, ``key:ID`` or ``system``. ``depth`` counts the automatic steps that
    led here, so that rules which feed each other end. ``ancestors`` are what caused the cause, the nearest first, at most
    MOST_ANCESTORS: with them a chain can be followed where a command, or another service, stands in between.
    ``actor_version`` is the version of the rule that acts, 0 for other actors.
    """

    id: str
    type: str
    source: str
    account: str
    entity: str
    time: datetime
    recorded: datetime
    actor: str = "system"
    correlation_id: str = ""
    causation_id: str = ""
    sequence: int = 0
    depth: int = 0
    traceparent: str = ""
    ancestors: tuple[str, ...] = ()
    actor_version: int = 0

    def headers(self) -> dict[str, str]:
        """The NATS headers that carry this envelope."""
        headers = {
            MESSAGE_ID: self.id,
            "ce-specversion": SPEC_VERSION,
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-subject": self.entity,
            "ce-time": _text(self.time),
            "relevo-account": self.account,
            "relevo-recorded": _text(self.recorded),
            "relevo-actor": self.actor,
            "relevo-correlation-id": self.correlation_id or self.id,
        }
        if self.causation_id:
            headers["relevo-causation-id"] = self.causation_id
        if self.sequence:
            headers["relevo-sequence"] = str(self.sequence)
        if self.depth:
            headers["relevo-depth"] = str(self.depth)
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        if self.ancestors:
            headers["relevo-ancestors"] = ",".join(self.ancestors)
        if self.actor_version:
            headers["relevo-actor-version"] = str(self.actor_version)
        return headers

    @classmethod
    def from_headers(cls, headers: Mapping[str, str] | None) -> "Envelope":
        """Read an envelope back.

        Raises MalformedEnvelope naming the header that is missing or unreadable.
        """
        headers = headers or {}
        try:
            time = datetime.fromisoformat(headers["ce-time"]).astimezone(UTC)
            recorded = headers.get("relevo-recorded")
            return cls(
                id=headers["ce-id"],
                type=headers["ce-type"],
                source=headers["ce-source"],
                account=headers["relevo-account"],
                entity=headers["ce-subject"],
                time=time,
                recorded=datetime.fromisoformat(recorded).astimezone(UTC) if recorded else time,
                actor=headers.get("relevo-actor", "system"),
                correlation_id=headers.get("relevo-correlation-id", ""),
                causation_id=headers.get("relevo-causation-id", ""),
                sequence=int(headers.get("relevo-sequence", "0")),
                depth=int(headers.get("relevo-depth", "0")),
                traceparent=headers.get("traceparent", ""),
                ancestors=tuple(one for one in headers.get("relevo-ancestors", "").split(",") if one)[:MOST_ANCESTORS],
                actor_version=int(headers.get("relevo-actor-version", "0")),
            )
        except KeyError as missing:
            raise MalformedEnvelope(f"header {missing.args[0]} is missing") from None
        except (ValueError, OverflowError) as bad:
            raise MalformedEnvelope(f"a header cannot be read: {bad}") from None


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
