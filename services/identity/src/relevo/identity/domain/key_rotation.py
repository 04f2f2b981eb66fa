"""Which key signs access tokens, and when one takes another's place.

A new key is published before it signs, so that every service knows it by then; an old one is accepted until the last
token that it signed has run out. In between nobody signs in again, and no service is restarted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

ANNOUNCED: Final = timedelta(minutes=30)
"""How long a key is published before it signs."""
MARGIN: Final = timedelta(minutes=5)
"""For the transaction that signed with the old key while the new one took over, and for clocks."""
REMEMBERED: Final = timedelta(days=1)
"""How long a key that is accepted no more stays, for whoever looks into something."""


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key. ``not_after`` None: it may sign; else it is only accepted, until then."""

    id: str
    created_at: datetime
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now: make a key, accept some until a moment only, forget some."""

    make: bool
    retire: tuple[str, ...]
    retire_at: datetime
    forget: tuple[str, ...]


def signer(keys: Sequence[Key], now: datetime) -> str | None:
    """The key that signs: the newest that was announced for long enough, else the oldest; None without any."""
    live = _live(keys)
    announced = [key for key in live if now - key.created_at >= ANNOUNCED]
    if announced:
        return announced[-1].id
    return live[0].id if live else None


def plan(keys: Sequence[Key], now: datetime, *, lifetime: timedelta, token: timedelta) -> Plan:
    """What to do. ``lifetime``: how long a key signs; ``token``: how long an access token lives."""
    live = _live(keys)
    present = signer(keys, now)
    older: list[str] = []
    for key in live:
        if key.id == present:
            break
        older.append(key.id)
    gone = [key.id for key in keys if key.not_after is not None and key.not_after + REMEMBERED <= now]
    make = not live or now - live[-1].created_at >= lifetime
    return Plan(make, tuple(older), now + token + MARGIN, tuple(gone))


def _live(keys: Sequence[Key]) -> list[Key]:
    return sorted((key for key in keys if key.not_after is None), key=lambda key: (key.created_at, key.id))
