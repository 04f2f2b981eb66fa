"""One-time links: what they are for, how long each is good, and how many are sent."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from relevo.identity.domain.sign_in import Limit


class Purpose(StrEnum):
    """What the bearer of a link may do, once."""

    INVITATION = "invitation"
    """Accept the invitation: set name and password."""
    PASSWORD_RESET = "password_reset"  # noqa: S105  (a name, no password)
    """Choose another password."""
    EMAIL_CHANGE = "email_change"
    """Make the address that the link was sent to the agent's own."""


LIFETIME: Final = {
    Purpose.INVITATION: timedelta(days=7),
    Purpose.PASSWORD_RESET: timedelta(minutes=30),
    Purpose.EMAIL_CHANGE: timedelta(hours=24),
}
SEVERAL: Final = frozenset({Purpose.PASSWORD_RESET})
"""Of these an agent may have several at once: whoever asks in somebody's name must not take the link that they hold.
Of the others a new one replaces the one before."""

MAILS_PER_AGENT: Final = Limit(5, timedelta(hours=1))
"""Links of one purpose to one person."""
INVITATIONS_PER_ACCOUNT: Final = Limit(300, timedelta(hours=1))
"""Nobody sends bulk mail by inviting."""
RESETS_PER_ADDRESS: Final = Limit(3, timedelta(hours=1))
RESETS_PER_IP: Final = Limit(30, timedelta(hours=1))
OPENED_PER_IP: Final = Limit(60, timedelta(minutes=15))
"""Links presented from one place, right or wrong."""
