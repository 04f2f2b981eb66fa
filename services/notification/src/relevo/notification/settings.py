"""Settings of the notification service."""

from typing import Annotated
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AfterValidator, Field, SecretStr

from relevo.chassis.settings import ServiceSettings
from relevo.notification.domain import push


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
    vapid_seed: SecretStr | None = Field(None, min_length=32)
    """Random text, from which the key of web push follows; unset: there are no pushes. Another one ends all subscriptions."""
    vapid_subject: str = ""
    """Whom a push service may ask about our pushes, as mailto:… or https://…; empty: the address of `mail_from`."""
    push_hosts: str = "fcm.googleapis.com,push.services.mozilla.com,notify.windows.com,push.apple.com"
    """Where pushes may go (with commas): these hosts and those below them."""
    smtp_timeout: float = Field(20, gt=0, le=120)
    mail_attempts: int = Field(10, ge=1)
    mail_backoff: float = Field(30, gt=0)
    """After the first failure; twice as long after every further one, an hour at most."""

    def vapid_key(self) -> ec.EllipticCurvePrivateKey | None:
        """The key of web push; None: it is off."""
        return push.vapid_key(self.vapid_seed.get_secret_value()) if self.vapid_seed is not None else None
