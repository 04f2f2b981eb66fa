"""Settings of the channels service."""

from pydantic import Field

from relevo.chassis.sealing import MasterKey, key_bytes
from relevo.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Durations are seconds."""

    master_key: MasterKey
    """Seals the channels' secrets at rest, and signs the tokens of webchat visitors."""

    webhooks_allow_private: bool = False
    """Let webhooks go to private and loopback addresses: for tests and closed networks."""
    webhook_timeout: float = Field(10, gt=0, le=60)
    webhook_attempts: int = Field(12, ge=1, le=50)
    webhook_backoff: float = Field(5, gt=0)
    """After the first failure; twice as long after every further one, an hour at most."""
    webhook_parallel: int = Field(16, ge=1)
    """Requests under way at once in one process, a quarter of them at most for one inbox."""

    webchat_session_days: int = Field(180, ge=1)
    webchat_messages_per_minute: float = Field(30, gt=0)
    """Requests of one visitor, and new sessions from one address."""
    webchat_burst: int = Field(10, ge=1)
    webchat_sockets_per_visitor: int = Field(5, ge=1)

    @property
    def key(self) -> bytes:
        """The master key itself."""
        return key_bytes(self.master_key)
