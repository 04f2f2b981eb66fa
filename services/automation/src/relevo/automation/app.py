"""What runs in automation."""

from relevo.automation import api
from relevo.automation.handlers import Automaton
from relevo.automation.settings import Settings
from relevo.chassis import Consumer, Projection, Service, labels
from relevo.contracts import streams


def build() -> Service:
    """The service, wired."""
    settings = Settings()
    automaton = Automaton(settings.rule_depth_limit)
    return Service(
        name="automation",
        settings=settings,
        migrations="relevo.automation.migrations",
        consumers=(Consumer(streams.EVT_CONVERSATION, automaton.on_conversation),),
        router=api.router,
        projections=(Projection("labels", labels.TABLES, {streams.EVT_CONVERSATION: labels.kept}),),
    )
