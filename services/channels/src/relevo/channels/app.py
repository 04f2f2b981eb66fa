"""Wiring of the channels service."""

import asyncio

from relevo.channels import outbound, reports
from relevo.channels.api import router
from relevo.channels.exported import EXPORTED
from relevo.channels.inboxes import Inboxes
from relevo.channels.personal import PERSONAL
from relevo.channels.settings import Settings
from relevo.channels.webchat import Visitors
from relevo.channels.webhook import Deliverer
from relevo.chassis import Runtime, Service
from relevo.kernel.rate import Buckets


def build() -> Service:
    """The service, from the environment."""
    settings = Settings()

    async def setup(runtime: Runtime) -> None:
        inboxes = Inboxes(runtime.database)
        visitors = Visitors(settings, inboxes)
        runtime.extra |= {
            "inboxes": inboxes,
            "visitors": visitors,
            "buckets": Buckets(settings.webchat_messages_per_minute / 60, settings.webchat_burst),
            "deliveries": asyncio.Event(),
            "reports": asyncio.Event(),
        }
        await visitors.listen(runtime)

    async def deliver(runtime: Runtime) -> None:
        await Deliverer(runtime, runtime.extra["inboxes"]).run()

    return Service(
        name="channels",
        settings=settings,
        migrations="relevo.channels.migrations",
        exported=EXPORTED,
        router=router,
        setup=setup,
        subscribers=outbound.subscribe,
        workers=(deliver, reports.run),
        personal=PERSONAL,
    )
