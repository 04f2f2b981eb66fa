"""What is done from time to time: forgetting attempts, links and sessions that are over, turning the signing keys."""

import asyncio
from datetime import datetime, timedelta

import psycopg

from relevo.chassis import Runtime
from relevo.chassis.database import Tx, described
from relevo.contracts.base import now
from relevo.contracts.identity import PLATFORM
from relevo.identity import signing
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import links, oidc, sign_in, sign_ups

_EVERY_SECONDS = 600.0
ATTEMPTS_KEPT = timedelta(hours=24)
"""No limit counts over a longer time."""
SENT_KEPT = timedelta(hours=1)
"""How long the outbox keeps the tokens of links that were published."""
SESSIONS_KEPT = timedelta(days=90)
"""Ended sessions stay for so long, for whoever looks into an incident."""


async def housekeeper(runtime: Runtime) -> None:
    """The worker."""
    settings = runtime.settings
    assert isinstance(settings, IdentitySettings)
    while not runtime.stopping.is_set():
        at = now()
        try:
            async with runtime.database.begin(door="retention") as tx:
                await tidy(tx, at)
            async with runtime.database.begin(PLATFORM) as tx:
                await signing.turn(tx, settings, at)
        except (psycopg.Error, OSError) as error:
            runtime.log.warning("housekeeping_again", error=described(error))
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await runtime.stopping.wait()
        except TimeoutError:
            continue


async def tidy(tx: Tx, at: datetime) -> None:
    """Forget what is over at this moment."""
    await sign_in.forget(tx, attempts_before=at - ATTEMPTS_KEPT, sessions_before=at - SESSIONS_KEPT)
    await links.forget_old(tx, at)
    await sign_ups.forget(tx, at)
    await oidc.forget(tx, at)
    await links.forget_sent(tx, at - SENT_KEPT)
