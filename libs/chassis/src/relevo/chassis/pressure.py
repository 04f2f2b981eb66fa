"""Pressure: how long the oldest event has waited here, told on the bus while it is long.

Whoever decides what comes into the house (ingest) listens, and lets less in while services behind it fall behind.
Nothing is said, asked or looked at while nothing waits.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from nats.errors import Error as NatsError

from relevo.chassis.bus import Bus
from relevo.contracts.base import now
from relevo.contracts.grants import load_subject

EVERY = 0.1
"""Seconds between two tellings."""
WORTH_TELLING = 0.1
"""Seconds; what has waited less is on its way."""


class Pressure:
    """Tells, on core NATS, for how many seconds the oldest waiting event has waited.

    ``oldest`` answers when each of the waiting ones was stored, by the broker's or the database's clock. Whoever lets
    something wait sets ``stirred``. What is lost on the way is told again soon.
    """

    def __init__(self, bus: Bus, stirred: asyncio.Event, oldest: Callable[[], Iterable[datetime]]) -> None:
        self._bus = bus
        self._stirred = stirred
        self._oldest = oldest

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self._stirred.wait()
            await asyncio.sleep(EVERY)
            waiting = list(self._oldest())
            if not waiting:
                self._stirred.clear()
                continue
            seconds = (now() - min(waiting)).total_seconds()
            if seconds > WORTH_TELLING:
                try:
                    await self._bus.nats.publish(load_subject(self._bus.service), f"{seconds:.3f}".encode())
                except (NatsError, OSError):
                    continue  # the bus is away, and with it whoever would hear
