"""What ingest is told by its environment, beside what every service is told."""

from datetime import timedelta

from pydantic import Field

from relevo.chassis.settings import ServiceSettings
from relevo.ingest.domain.parsing import Limits


class Settings(ServiceSettings):
    http_max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    """A batch on the HTTP door is larger than other requests."""
    inbound_max_events: int = Field(1000, ge=1, le=1000)
    """Events in one request."""
    inbound_max_depth: int = Field(32, ge=8, le=100)
    """Levels of nesting in one event."""
    inbound_max_event_bytes: int = Field(800_000, ge=10_000, le=800_000)
    """JSON bytes of one event, ``raw`` apart; what is accepted must fit on the bus again."""
    inbound_clock_skew_seconds: int = Field(86_400, ge=0)
    """How far in the future an event's time may lie."""
    fairness_pressure_seconds: float = Field(0.35, ge=0)
    """How long events may wait, in all services together, before accounts that bring more than others wait; 0: they never do."""
    quarantine_max_body_bytes: int = Field(1024 * 1024, ge=1024)
    """How much of a refused body is kept; the broker takes 1 MiB at most, so all of it by default."""

    @property
    def limits(self) -> Limits:
        """What one event may be at most."""
        return Limits(
            depth=self.inbound_max_depth,
            event_bytes=self.inbound_max_event_bytes,
            future=timedelta(seconds=self.inbound_clock_skew_seconds),
        )
