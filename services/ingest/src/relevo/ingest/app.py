"""Wiring of the ingest service."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.ingest import api, handlers
from relevo.ingest.settings import Settings


def build() -> Service:
    """The service, from the environment."""
    settings = Settings()
    return Service(
        name="ingest",
        settings=settings,
        migrations="relevo.ingest.migrations",
        consumers=(Consumer(streams.INBOUND, handlers.Gate(settings).on_inbound),),
        router=api.router,
        subscribers=handlers.subscribe,
    )
