"""What runs in reporting."""

from typing import Final

from relevo.chassis import Consumer, Projection, Service
from relevo.contracts import streams
from relevo.reporting import api
from relevo.reporting.handlers import Recorder
from relevo.reporting.settings import Settings
from relevo.reporting.tables import TABLES

_STREAMS: Final = (
    streams.EVT_CONVERSATION,
    streams.EVT_ASSIGNMENT,
    streams.EVT_AUTOMATION,
    streams.EVT_PRESENCE,
)


def build() -> Service:
    """The service, wired."""
    recorder = Recorder()
    return Service(
        name="reporting",
        settings=Settings(),
        migrations="relevo.reporting.migrations",
        consumers=tuple(Consumer(stream, recorder.on_events) for stream in _STREAMS),
        router=api.router,
        projections=(Projection("reports", TABLES, dict.fromkeys(_STREAMS, Recorder().project)),),
    )
