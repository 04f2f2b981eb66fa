"""Settings of the presence service."""

from datetime import timedelta

from relevo.chassis.settings import ServiceSettings
from relevo.presence.domain.status import Limits


class Settings(ServiceSettings):
    """Durations are seconds. ``grace`` should stay well above the heartbeat interval of the sockets (15 s)."""

    presence_grace: float = 45
    presence_leave_grace: float = 5
    presence_http_grace: float = 12 * 3600

    def limits(self) -> Limits:
        """The same as the domain wants them."""
        return Limits(
            grace=timedelta(seconds=self.presence_grace),
            leave_grace=timedelta(seconds=self.presence_leave_grace),
            http_grace=timedelta(seconds=self.presence_http_grace),
        )
