"""Whether something that waited is still to be delivered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_LONGEST: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true at the moment of delivery. `reader`: whoever it is for is still there; `sees`: and may see it."""

    seen: bool = False
    reader: bool = True
    sees: bool = True
    refused: str | None = None
    """Why their address takes nothing; None: it does."""
    useless_after: datetime | None = None


def obstacle(standing: Standing, now: datetime) -> str | None:
    """Why it is left out, None when it is to be delivered."""
    if standing.useless_after is not None and standing.useless_after <= now:
        return "too late to be of use"
    if not standing.reader:
        return "whom it was for is not there any more"
    if standing.seen:
        return "read meanwhile"
    if not standing.sees:
        return "its reader may not see the conversation any more"
    if standing.refused is not None:
        return f"the address was refused before: {standing.refused}"
    return None


def backoff(first: timedelta, attempts: int) -> timedelta:
    """How long until the next attempt after so many: twice as long after each, an hour at most."""
    return min(first * float(2 ** min(attempts - 1, 20)), _LONGEST)
