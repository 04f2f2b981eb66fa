"""Sign-in: what passwords are taken, how many attempts are allowed, and what a refresh token is worth."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

MIN_PASSWORD = 10
MAX_PASSWORD = 1024
"""In characters. The upper bound keeps hashing cheap for whoever sends megabytes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``attempts`` within ``window`` from the first; then none until the window ends."""

    attempts: int
    window: timedelta


PER_ADDRESS = Limit(8, timedelta(minutes=15))
PER_IP = Limit(60, timedelta(minutes=15))
"""Wider than per address: an office may stand behind one IP. Successful attempts are not counted."""

PER_SECOND_FACTOR = Limit(10, timedelta(hours=1))
"""Wrong codes of one agent; a right one takes away only itself, so that the person's own sign-ins give nobody more."""


def password_fault(password: str, *, email: str) -> str | None:
    """Why the password is not taken (a code), or None. Length, not composition: as NIST SP 800-63B has it."""
    if len(password) < MIN_PASSWORD:
        return "password_too_short"
    if len(password) > MAX_PASSWORD:
        return "password_too_long"
    if password.casefold() in {email.casefold(), email.partition("@")[0].casefold()}:
        return "password_is_the_address"
    return None


def wait(limit: Limit, attempts: int, since: datetime, now: datetime) -> timedelta | None:
    """How long until the next attempt is allowed, when this one, the ``attempts``-th since ``since``, is one too many."""
    until = since + limit.window
    if attempts <= limit.attempts or now >= until:
        return None
    return until - now


class Refresh(Enum):
    """What to do with a refresh token that was presented."""

    ROTATE = "rotate"
    REFUSE = "refuse"
    END_SESSION = "end_session"


def judge_refresh(
    *, used_at: datetime | None, expires_at: datetime, session_ended_at: datetime | None, now: datetime
) -> Refresh:
    """A token is good once. Whoever presents it again, or the one before them, stole it: the session ends."""
    if session_ended_at is not None:
        return Refresh.REFUSE
    if used_at is not None:
        return Refresh.END_SESSION
    return Refresh.ROTATE if now < expires_at else Refresh.REFUSE
