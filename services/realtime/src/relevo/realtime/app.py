"""Wiring of the realtime service."""

from relevo.chassis import Consumer, Projection, Runtime, Service
from relevo.contracts import streams
from relevo.realtime import api, handlers, heart
from relevo.realtime.exported import EXPORTED
from relevo.realtime.hub import Hub
from relevo.realtime.lookers import Lookers
from relevo.realtime.personal import PERSONAL
from relevo.realtime.settings import Settings


async def _setup(runtime: Runtime) -> None:
    hub = Hub(runtime)
    lookers = Lookers(runtime, hub)
    runtime.extra |= {"hub": hub, "lookers": lookers}
    await lookers.listen()


async def _watch_access(runtime: Runtime) -> None:
    hub: Hub = runtime.extra["hub"]
    await hub.watch()


async def _show_looking(runtime: Runtime) -> None:
    lookers: Lookers = runtime.extra["lookers"]
    await lookers.sweep()


def build() -> Service:
    """The service, from the environment."""
    return Service(
        name="realtime",
        settings=Settings(),
        migrations="relevo.realtime.migrations",
        consumers=(
            Consumer(streams.EVT_CONVERSATION, handlers.on_conversation),
            Consumer(streams.EVT_PRESENCE, handlers.on_nothing),
            Consumer(streams.EVT_NOTIFICATION, handlers.on_nothing),
        ),
        exported=EXPORTED,
        router=api.router,
        setup=_setup,
        workers=(_watch_access, _show_looking, heart.keep_beating),
        projections=(
            Projection(
                "conversation_facts",
                ("conversation_facts", "chats"),
                {streams.EVT_CONVERSATION: handlers.on_conversation},
            ),
        ),
        personal=PERSONAL,
    )
