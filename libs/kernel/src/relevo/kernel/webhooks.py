"""Outgoing webhooks, decided: how a delivery is signed, what an answer means, when to try again and when to pause.

Signed as Standard Webhooks 1.0 says: `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`,
which is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` under the bytes that follow `whsec_` in base64;
one for each secret that is good at present, with a space between.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
_PREFIX: Final = "whsec_"
_PASSING: Final = frozenset({408, 425, 429})
_GONE: Final = 410
_HINTS: Final = frozenset({429, 503})

State = Literal["waiting", "delivered", "failed"]


def secret(raw: bytes) -> str:
    """A secret as it is shown."""
    return _PREFIX + base64.b64encode(raw).decode()


def signature(secrets: Sequence[str], delivery_id: str, timestamp: int, body: bytes) -> str:
    """The value of the signature header."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    keys = [base64.b64decode(one.removeprefix(_PREFIX)) for one in secrets]
    return " ".join(f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}" for key in keys)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for an endpoint. A delivery waits ``first`` after its first failure, then twice as long each time.

    After ``struggles_after`` failures in a row an endpoint gets one request at a time, with at most ``probe`` between
    them, until it takes one. One that takes nothing for ``give_up`` is paused; a delivery that it refuses for as long
    while it takes others is given up.
    """

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(hours=1)
    probe: timedelta = timedelta(minutes=5)
    give_up: timedelta = timedelta(hours=24)
    struggles_after: int = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt: an answer's status, or why there was none."""

    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None

    @property
    def taken(self) -> bool:
        """Whether the endpoint has it now."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the endpoint says that it wants nothing any more."""
        return self.status == _GONE

    @property
    def words(self) -> str | None:
        """Why it was not taken, for who looks after the endpoint."""
        if self.taken:
            return None
        if self.status is None:
            return self.error or "no answer"
        if 300 <= self.status < 400:
            return f"answered {self.status}: redirects are not followed"
        return f"answered {self.status}"


def answered(status: int, retry_after: str | None) -> Outcome:
    """Read an answer. Of its Retry-After only seconds are understood, and only where they mean an overload."""
    seconds = (
        int(retry_after) if status in _HINTS and retry_after and retry_after.isascii() and retry_after.isdigit() else 0
    )
    return Outcome(status, retry_after=timedelta(seconds=min(seconds, 86_400)) if seconds else None)


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint does. ``failures``: in a row; ``failing_since``: the first of them; ``next_at``: nothing before."""

    failures: int
    failing_since: datetime | None
    next_at: datetime
    paused: bool = False

    def struggles(self, patience: Patience) -> bool:
        """Whether it gets one request at a time."""
        return self.failures >= patience.struggles_after


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows of an attempt. ``next_at``: when the delivery's lane is looked at again; ``recovered``: all lanes now."""

    state: State
    next_at: datetime
    health: Health
    recovered: bool = False


def decide(
    outcome: Outcome,
    health: Health,
    *,
    attempts: int,
    first_tried_at: datetime,
    at: datetime,
    patience: Patience,
    luck: float,
) -> Verdict:
    """What follows of an attempt, the ``attempts``-th of its delivery. ``luck`` is in [0, 1): it spreads what waits."""
    if outcome.taken:
        return Verdict("delivered", at, Health(0, None, at), recovered=health.struggles(patience))
    since = health.failing_since or at
    failures = health.failures + 1
    wanted = min(outcome.retry_after or timedelta(), patience.longest)
    wait = max(_backoff(patience.first, attempts, patience.longest, luck), wanted)
    pause = timedelta()
    if (over := failures - patience.struggles_after) >= 0:
        pause = _backoff(patience.first, over + 1, patience.probe, luck)
    after = Health(failures, since, at + max(pause, wanted), paused=outcome.gone or at - since >= patience.give_up)
    if not after.paused and at - first_tried_at >= patience.give_up:
        return Verdict("failed", at, after)
    return Verdict("waiting", at + wait, after)


def _backoff(first: timedelta, times: int, longest: timedelta, luck: float) -> timedelta:
    whole = min(first * float(2 ** min(times - 1, 20)), longest)
    return whole * (0.75 + luck / 4)
