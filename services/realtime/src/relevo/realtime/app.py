"""Wiring of the realtime service."""

from relevo.chassis import Consumer, Projection, Runtime, Service
from relevo.contracts import streams
from relevo.realtime import api, handlers, heart
from relevo.realtime.hub import Hub
from relevo.realtime.settings import Settings


async def _setup(runtime: Runtime) -> None:
    runtime.extra["hub"] = Hub(runtime)


async def _watch_access(runtime: Runtime) -> None:
    hub: Hub = runtime.extra["hub"]
    await hub.watch()


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
        router=api.router,
        setup=_setup,
        workers=(_watch_access, heart.keep_beating),
        projections=(
            Projection(
                "conversation_facts", ("conversation_facts",), {streams.EVT_CONVERSATION: handlers.on_conversation}
            ),
        ),
    )
