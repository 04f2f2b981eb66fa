"""Configuration of automation."""

from pydantic import Field

from relevo.chassis.sealing import MasterKey, key_bytes
from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What every service has, the loop guard, and how webhooks are sent. Durations are seconds."""

    rule_depth_limit: int = Field(8, ge=1, le=100)
    """Automatic steps (a rule's command, and the event that comes of it, are two) after which no rule fires any more."""

    rule_hourly_limit: int = Field(100, ge=1, le=10_000)
    """How often a rule fires in one conversation within an hour; what more it matches is recorded and held back."""

    master_key: MasterKey
    """Seals the secrets of webhooks at rest."""
    webhooks_allow_private: bool = False
    """Let webhooks go to private and loopback addresses, and over http: for tests and closed networks."""
    webhook_timeout: float = Field(10, gt=0, le=60)
    webhook_parallel: int = Field(16, ge=1, le=200)
    """Requests under way at once in one process, a quarter of them at most to one endpoint."""
    webhook_days: int = Field(14, ge=1, le=90)
    """For how long deliveries are kept, those of endpoints that nobody resumes too."""

    @property
    def key(self) -> bytes:
        """The master key itself."""
        return key_bytes(self.master_key)
