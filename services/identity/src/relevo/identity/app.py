"""Wiring of the identity service."""

import asyncio

from relevo.chassis import Consumer, Runtime, Service
from relevo.chassis.sealing import key_bytes
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.contracts.identity import PLATFORM
from relevo.identity import (
    administration,
    api,
    bus_credentials,
    deletions,
    handlers,
    housekeeping,
    oidc,
    recovery,
    signing,
)
from relevo.identity.bus_access import BusAccess
from relevo.identity.exported import EXPORTED
from relevo.identity.migrations import ACCOUNT_COLUMNS
from relevo.identity.passwords import Passwords
from relevo.identity.settings import IdentitySettings


def build() -> Service:
    """The service, from the environment."""
    settings = IdentitySettings()

    async def set_up(runtime: Runtime) -> None:
        runtime.extra["passwords"] = Passwords()
        runtime.extra["oidc"] = oidc.provider(settings)
        runtime.extra["reset_asked"] = asyncio.Event()
        runtime.extra["bus_access"] = BusAccess(settings, runtime.js)
        async with runtime.database.begin(PLATFORM, door="upgrade") as tx:
            await signing.turn(tx, settings, now())
            # A master key that does not fit is found now, not at the first sign-in.
            await signing.current_key(tx, key_bytes(settings.master_key))
            await administration.complete_administrators(tx)

    return Service(
        name="identity",
        settings=settings,
        migrations="relevo.identity.migrations",
        consumers=(
            Consumer(streams.EVT_INGEST, handlers.on_ingest),
            Consumer(streams.CMD_ACCOUNTS, deletions.on_accounts),
        ),
        exported=EXPORTED,
        router=api.router,
        workers=(bus_credentials.settler, deletions.worker, housekeeping.housekeeper, recovery.sender),
        setup=set_up,
        account_columns=ACCOUNT_COLUMNS,
        drop_finish=deletions.finish,
    )
