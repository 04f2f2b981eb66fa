"""Settings of the notification service."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from relevo.chassis.settings import ServiceSettings


def _smtp(secret: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(secret.get_secret_value())
        known = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise ValueError("must look like smtp://user:password@host:587 (STARTTLS when offered) or smtps://host:465")
    return secret


class Settings(ServiceSettings):
    """Durations are seconds."""

    smtp_url: Annotated[SecretStr, AfterValidator(_smtp)] | None = None
    """The mail server; unset: nothing is sent, notifications are in-app only."""
    mail_from: str = "Relevo <relevo@localhost>"
    public_url: str = ""
    """The address of the console, for links; empty: no links."""
    mail_unseen_seconds: float = Field(300, ge=0, le=86400)
    """How long an e-mail of what is in the list waits, to be left out when it is read there meanwhile."""
    notifications_kept_days: int = Field(90, ge=1)
    """For how long lists, and what is told of e-mails, go back."""
    smtp_timeout: float = Field(20, gt=0, le=120)
    mail_attempts: int = Field(10, ge=1)
    mail_backoff: float = Field(30, gt=0)
    """After the first failure; twice as long after every further one, an hour at most."""
