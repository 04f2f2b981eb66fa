"""Settings of the presence service."""

from datetime import timedelta

from relevo.chassis.settings import ServiceSettings
from relevo.presence.domain.status import Limits


class Settings(ServiceSettings):
    """Durations are seconds. A socket whose heartbeat is late by ``grace`` is gone: well above ``heartbeat``, how often they come."""

    presence_heartbeat: float = 15
    presence_grace: float = 30
    presence_leave_grace: float = 5
    presence_http_grace: float = 12 * 3600

    def limits(self) -> Limits:
        """The same as the domain wants them."""
        return Limits(
            heartbeat=timedelta(seconds=self.presence_heartbeat),
            grace=timedelta(seconds=self.presence_grace),
            leave_grace=timedelta(seconds=self.presence_leave_grace),
            http_grace=timedelta(seconds=self.presence_http_grace),
        )


def limits_of(settings: ServiceSettings) -> Limits:
    """The limits of a running presence service."""
    assert isinstance(settings, Settings)
    return settings.limits()
