"""Wiring of the presence service."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.presence import api, changes, handlers
from relevo.presence.exported import EXPORTED
from relevo.presence.settings import Settings


def build() -> Service:
    """The service, from the environment."""
    settings = Settings()
    limits = settings.limits()
    return Service(
        name="presence",
        settings=settings,
        migrations="relevo.presence.migrations",
        consumers=(
            Consumer(streams.CMD_PRESENCE, handlers.commands(limits)),
            Consumer(streams.EVT_IDENTITY, handlers.directory(limits)),
            Consumer(streams.EVT_ASSIGNMENT, handlers.loads(limits)),
        ),
        exported=EXPORTED,
        router=api.router,
        timers={changes.TIMER: handlers.alarm(limits)},
        urgent=True,
    )
