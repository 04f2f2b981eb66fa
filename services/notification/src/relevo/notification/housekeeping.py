"""Bringing back what was snoozed, and forgetting what is old."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import psycopg

from relevo.chassis import Runtime, conversation_facts
from relevo.chassis.database import Tx, described
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import now
from relevo.notification.settings import Settings
from relevo.notification.store import access, lists, mails, pushes
from relevo.notification.telling import emit_created

WAKE: Final = "wake"
"""The timers of snoozed notifications; their key is the notification."""
_EVERY: Final = 3600.0
_FOLDED_KEPT: Final = timedelta(days=7)


async def on_wake(due: Sequence[DueTimer], tx: Tx) -> None:
    """Say again what was snoozed until now, to whom it still concerns."""
    rows = await lists.wake(tx, [(timer.key, timer.due_at) for timer in due])
    accounts = {row.account_id for row in rows}
    people = await access.people(tx, accounts, {row.agent_id for row in rows})
    facts = await conversation_facts.find(tx, accounts, {row.conversation_id for row in rows if row.conversation_id})
    for row in rows:
        person = people.get(row.agent_id)
        if person is None or not (row.conversation_id is None or person.sees(facts.get(row.conversation_id))):
            continue
        emit_created(tx, row)


async def forget_old(runtime: Runtime) -> None:
    """The worker: every hour, in batches."""
    settings = runtime.settings
    assert isinstance(settings, Settings)
    kept = timedelta(days=settings.notifications_kept_days)
    while not runtime.stopping.is_set():
        try:
            more = True
            while more and not runtime.stopping.is_set():
                at = now()
                async with runtime.database.begin(door="retention") as tx:
                    more = await lists.forget(tx, at - kept, at - min(kept, _FOLDED_KEPT))
                    more = await mails.forget(tx, at - kept) or more
                    more = await pushes.forget(tx, at - min(kept, _FOLDED_KEPT)) or more
        except (psycopg.Error, OSError) as error:
            runtime.log.warning("housekeeping_again", error=described(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVERY):
                await runtime.stopping.wait()
