"""What a webhook's answer means."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

_PASSING: Final = frozenset({408, 425, 429})
_LONGEST: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sent:
    """Taken. `external_id` is the receiver's own id of the message, if it told one."""

    status: Literal["sent", "delivered"] = "sent"
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Not taken. `permanent`: trying again cannot help. `retry_after`: the receiver's wish."""

    error: str
    permanent: bool
    retry_after: timedelta | None = None


def of_answer(status: int, retry_after: str | None, body: Any) -> Sent | Failed:
    """Read an answer: its status, its Retry-After header, and its body if that was JSON."""
    if 200 <= status < 300:
        told = body if isinstance(body, dict) else {}
        external_id = told.get("external_id")
        good = isinstance(external_id, str) and 0 < len(external_id) <= 512 and external_id.isprintable()
        return Sent("delivered" if told.get("status") == "delivered" else "sent", external_id if good else None)
    wait = timedelta(seconds=int(retry_after)) if retry_after and retry_after.isdigit() else None
    passing = status in _PASSING or status >= 500
    return Failed(f"the webhook answered {status}", not passing, min(wait, _LONGEST) if wait else None)


def delay(attempts: int, first: timedelta, retry_after: timedelta | None) -> timedelta:
    """How long to wait after this many failed attempts: twice as long each time, an hour at most."""
    # Capped before it is multiplied: a timedelta cannot be as long as it likes.
    own: timedelta = min(first * int(2 ** min(attempts - 1, 20)), _LONGEST)
    return max(own, retry_after) if retry_after else own
