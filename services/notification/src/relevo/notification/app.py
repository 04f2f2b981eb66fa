"""Wiring of the notification service."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.notification import api, housekeeping, mailer, pusher
from relevo.notification.exported import EXPORTED
from relevo.notification.handlers import Handlers
from relevo.notification.personal import PERSONAL
from relevo.notification.settings import Settings


def build() -> Service:
    """The service, from the environment."""
    settings = Settings()
    handlers = Handlers(settings)
    return Service(
        name="notification",
        settings=settings,
        migrations="relevo.notification.migrations",
        consumers=(
            Consumer(streams.EVT_CONVERSATION, handlers.on_conversation),
            Consumer(streams.CMD_NOTIFICATION, handlers.on_commands),
        ),
        exported=EXPORTED,
        router=api.router,
        workers=(mailer.run, pusher.run, housekeeping.forget_old),
        timers={housekeeping.WAKE: housekeeping.on_wake},
        personal=PERSONAL,
    )
