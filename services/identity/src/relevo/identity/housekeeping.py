"""Forgetting what is over: sign-in attempts, and sessions whose tokens are all spent."""

import asyncio
from datetime import timedelta

import psycopg

from relevo.chassis import Runtime
from relevo.contracts.base import now
from relevo.identity.domain.sign_in import PER_ADDRESS, PER_IP
from relevo.identity.store import sign_in

_EVERY_SECONDS = 3600.0
SESSIONS_KEPT = timedelta(days=90)
"""Ended sessions stay for so long, for whoever looks into an incident."""


async def housekeeper(runtime: Runtime) -> None:
    """The worker."""
    while not runtime.stopping.is_set():
        at = now()
        try:
            async with runtime.database.begin() as tx:
                await sign_in.forget(
                    tx,
                    attempts_before=at - max(PER_ADDRESS.window, PER_IP.window),
                    sessions_before=at - SESSIONS_KEPT,
                )
        except (psycopg.Error, OSError) as error:
            runtime.log.warning("housekeeping_again", error=str(error)[:300])
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await runtime.stopping.wait()
        except TimeoutError:
            continue
