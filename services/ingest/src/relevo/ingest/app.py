"""Wiring of the ingest service."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.ingest import api, handlers
from relevo.ingest.exported import EXPORTED
from relevo.ingest.fairness import Fairness
from relevo.ingest.personal import PERSONAL
from relevo.ingest.settings import Settings


def build() -> Service:
    """The service, from the environment."""
    settings = Settings()
    fairness = Fairness(settings.fairness_pressure_seconds, handlers.Gate(settings).take_in)
    return Service(
        name="ingest",
        settings=settings,
        migrations="relevo.ingest.migrations",
        consumers=(Consumer(streams.INBOUND, fairness.on_inbound),),
        exported=EXPORTED,
        router=api.router,
        subscribers=handlers.subscribe,
        workers=(fairness.run,),
        setup=fairness.prepare,
        personal=PERSONAL,
    )
