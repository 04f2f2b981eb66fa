"""What runs in reporting."""

from typing import Final

from fastapi import APIRouter

from relevo.chassis import Consumer, Projection, Service, labels
from relevo.contracts import streams
from relevo.reporting import api, behind, distribution, download, groups, heat, pairs
from relevo.reporting.exported import EXPORTED
from relevo.reporting.handlers import Recorder
from relevo.reporting.personal import PERSONAL
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
    router = APIRouter()
    for part in (api, behind, groups, pairs, heat, distribution, download):
        router.include_router(part.router)
    return Service(
        name="reporting",
        settings=Settings(),
        migrations="relevo.reporting.migrations",
        consumers=tuple(Consumer(stream, recorder.on_events) for stream in _STREAMS),
        exported=EXPORTED,
        router=router,
        projections=(
            Projection("reports", TABLES, dict.fromkeys(_STREAMS, Recorder().project)),
            Projection("labels", labels.TABLES, {streams.EVT_CONVERSATION: labels.kept}),
        ),
        personal=PERSONAL,
    )
