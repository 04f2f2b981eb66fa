"""What this service forgets, and when."""

import asyncio
from datetime import timedelta
from typing import Final

from relevo.chassis.database import described
from relevo.chassis.service import Runtime
from relevo.contracts import streams
from relevo.contracts.base import now
from relevo.conversation import store

COMMANDS_KEPT: Final = streams.CMD_CONVERSATION.max_age * 2
"""Twice as long as the bus can still deliver a command again."""

IMPORTED_FILES_KEPT: Final = timedelta(days=7)
"""Of imports that were begun and not finished; a finished one's file is gone at once."""
FAILED_ROWS_KEPT: Final = timedelta(days=30)

_EVERY: Final = timedelta(hours=1)


async def run(runtime: Runtime) -> None:
    """Every hour, forget commands that can come no more, and what imports leave behind. Any number of replicas may do it."""
    while True:
        await asyncio.sleep(_EVERY.total_seconds())
        try:
            async with runtime.database.begin() as tx:
                await store.commands.forget(tx, now() - COMMANDS_KEPT)
                await store.imports.forget(tx, now() - IMPORTED_FILES_KEPT, now() - FAILED_ROWS_KEPT)
        except Exception as error:  # noqa: BLE001  (the database may be away; the next hour will do)
            runtime.log.warning("retention_again", error=described(error))
