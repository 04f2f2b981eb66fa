"""Wiring: what runs in this service."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.conversation import api, contacts_erasure, contacts_import, due, handlers, retention, surveys
from relevo.conversation.resolutions import SURVEY
from relevo.conversation.settings import Settings


def build() -> Service:
    """The conversation service, configured by its environment."""
    settings = Settings()
    return Service(
        name="conversation",
        settings=settings,
        migrations="relevo.conversation.migrations",
        consumers=(
            Consumer(streams.EVT_INGEST, handlers.on_ingest),
            Consumer(streams.EVT_ASSIGNMENT, handlers.on_assignment),
            Consumer(streams.CMD_CONVERSATION, handlers.on_commands),
        ),
        router=api.router,
        timers={**due.TIMERS, SURVEY: surveys.asker(settings.public_url)},
        workers=(retention.run, contacts_import.run, contacts_erasure.run),
    )
