"""What runs in reporting."""

from relevo.chassis import Consumer, Service
from relevo.contracts import streams
from relevo.reporting import api
from relevo.reporting.handlers import Recorder
from relevo.reporting.settings import Settings


def build() -> Service:
    """The service, wired."""
    recorder = Recorder()
    return Service(
        name="reporting",
        settings=Settings(),
        migrations="relevo.reporting.migrations",
        consumers=(
            Consumer(streams.EVT_CONVERSATION, recorder.on_events),
            Consumer(streams.EVT_ASSIGNMENT, recorder.on_events),
            Consumer(streams.EVT_AUTOMATION, recorder.on_events),
            Consumer(streams.EVT_PRESENCE, recorder.on_events),
        ),
        router=api.router,
    )
