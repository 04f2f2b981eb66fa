"""Settings of the channels service."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from relevo.chassis.settings import ServiceSettings


def _master_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be 32 random bytes in base64, as `openssl rand -base64 32` prints them")
    return SecretStr(base64.b64encode(raw).decode())


class Settings(ServiceSettings):
    """Durations are seconds."""

    master_key: Annotated[SecretStr, AfterValidator(_master_key)]
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
        return base64.b64decode(self.master_key.get_secret_value())
